use burn::tensor::Tensor;

use crate::{ExpertId, LayerId, Routing};

/// What one expert did for the tokens routed to it.
#[derive(Debug, Clone)]
pub struct Activation {
    /// Packed indices of the tokens routed to the expert, `n` of them.
    pub tokens: Vec<usize>,
    /// g: the factor each output is multiplied by, `[n]`.
    pub gates: Tensor<1>,
    /// f: the expert's output before that factor, `[n, d_model]`.
    pub outputs: Tensor<2>,
    /// What its down projection was given, act(gate)·up, `[n, d_expert]`; only where [`Observer::wants_inner`] says so.
    pub inner: Option<Tensor<2>>,
}

/// Watches a forward pass. Every method does nothing unless overridden; tensors hold real tokens only.
pub trait Observer {
    /// A router has chosen.
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let _ = (layer, routing);
    }

    /// An expert has run. Called only for experts that some token chose, and only when
    /// [`Self::wants_activations`] says so.
    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        let _ = (expert, activation);
    }

    /// Whether [`Self::activated`] should be called: it costs a copy of every expert's outputs.
    fn wants_activations(&self) -> bool {
        true
    }

    /// Whether [`Activation::inner`] should be there, which is then kept until the expert has been shown.
    fn wants_inner(&self) -> bool {
        false
    }

    /// A block has run: the residual stream before and after it, `[tokens, d_model]`.
    fn block_output(&mut self, layer: LayerId, before: &Tensor<2>, after: &Tensor<2>) {
        let _ = (layer, before, after);
    }
}

/// Observes nothing.
impl Observer for () {
    fn wants_activations(&self) -> bool {
        false
    }
}

/// Two observers are one observer.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        self.0.routed(layer, routing);
        self.1.routed(layer, routing);
    }

    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        self.0.activated(expert, activation);
        self.1.activated(expert, activation);
    }

    fn wants_activations(&self) -> bool {
        self.0.wants_activations() || self.1.wants_activations()
    }

    fn wants_inner(&self) -> bool {
        self.0.wants_inner() || self.1.wants_inner()
    }

    fn block_output(&mut self, layer: LayerId, before: &Tensor<2>, after: &Tensor<2>) {
        self.0.block_output(layer, before, after);
        self.1.block_output(layer, before, after);
    }
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        (**self).routed(layer, routing);
    }

    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        (**self).activated(expert, activation);
    }

    fn wants_activations(&self) -> bool {
        (**self).wants_activations()
    }

    fn wants_inner(&self) -> bool {
        (**self).wants_inner()
    }

    fn block_output(&mut self, layer: LayerId, before: &Tensor<2>, after: &Tensor<2>) {
        (**self).block_output(layer, before, after);
    }
}

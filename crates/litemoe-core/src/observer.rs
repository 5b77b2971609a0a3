use burn::tensor::Tensor;

use crate::{ExpertId, LayerId, Routing};

/// Activation of one expert on the tokens routed to it.
#[derive(Debug, Clone)]
pub struct Activation {
    /// Packed indices of the `n` tokens routed to the expert.
    pub tokens: Vec<usize>,
    /// g: routing weights (gates), the factors of the outputs, `[n]`.
    pub gates: Tensor<1>,
    /// f: expert outputs before the gate, `[n, d_model]`.
    pub outputs: Tensor<2>,
    /// Input of the down projection, act(gate)·up, `[n, d_expert]`; only if [`Observer::wants_inner`].
    pub inner: Option<Tensor<2>>,
}

/// Observer of a forward pass (hooks). Every method defaults to doing nothing; tensors contain no padding.
pub trait Observer {
    /// Called after a router has selected experts.
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let _ = (layer, routing);
    }

    /// Called after an expert has run, if [`Self::wants_activations`]; experts without tokens are skipped.
    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        let _ = (expert, activation);
    }

    /// Whether to call [`Self::activated`]; costs a copy of every expert's outputs.
    fn wants_activations(&self) -> bool {
        true
    }

    /// Whether to fill [`Activation::inner`]; it is kept in memory until the expert has been observed.
    fn wants_inner(&self) -> bool {
        false
    }

    /// Called after a block: the residual stream before and after it, `[tokens, d_model]`.
    fn block_output(&mut self, layer: LayerId, before: &Tensor<2>, after: &Tensor<2>) {
        let _ = (layer, before, after);
    }
}

/// The observer that does nothing.
impl Observer for () {
    fn wants_activations(&self) -> bool {
        false
    }
}

/// Calls both observers in order.
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

use burn::tensor::Tensor;
use litemoe_core::{Adapter, Lora};

/// The adapters of one expert's matrices.
#[derive(Debug, Clone, Default)]
pub struct ExpertAdapters {
    /// Of the gate; none in ungated experts.
    pub gate: Option<Adapter>,
    /// Of up.
    pub up: Option<Adapter>,
    /// Of down.
    pub down: Option<Adapter>,
}

impl ExpertAdapters {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    /// What there is of gate, up and down.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Lora> {
        self.gate.iter().chain(&self.up).chain(&self.down).map(Adapter::lora)
    }

    /// Whether a gradient may be asked of it.
    pub(super) fn is_tracked(&self) -> bool {
        self.parts().any(|lora| lora.a.device().is_autodiff() || lora.b.device().is_autodiff())
    }

    /// Adds the updates of gate and up, side by side in a gated expert, to the products `[n, …]` of `x` `[n, d_model]`.
    ///
    /// # Panics
    /// When an ungated expert's gate has an update.
    pub(super) fn beside_gate_up(
        &self,
        x: &Tensor<2>,
        products: Tensor<2>,
        gated: bool,
    ) -> Tensor<2> {
        let delta = |part: &Option<Adapter>| part.as_ref().map(|part| part.delta(x.clone()));
        let [gate, up] = [delta(&self.gate), delta(&self.up)];
        assert!(gated || gate.is_none(), "an update beside the gate of an ungated expert");
        let both = match (gate, up) {
            (None, None) => return products,
            (None, Some(up)) if !gated => return products + up,
            (Some(gate), Some(up)) => [gate, up],
            (Some(gate), None) => [gate.clone(), gate.zeros_like()],
            (None, Some(up)) => [up.zeros_like(), up],
        };
        products + Tensor::cat(both.to_vec(), 1)
    }

    /// Adds the update of down to the outputs `[n, d_model]` for what went in, `[n, d_expert]`.
    pub(super) fn beside_down(&self, inner: Tensor<2>, outputs: Tensor<2>) -> Tensor<2> {
        match &self.down {
            Some(down) => outputs + down.delta(inner),
            None => outputs,
        }
    }
}

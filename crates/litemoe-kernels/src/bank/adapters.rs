use burn::tensor::Tensor;
use litemoe_core::{Adapter, Lora};

use crate::adapter_delta;

/// Adapters of one expert's three projections.
#[derive(Debug, Clone, Default)]
pub struct ExpertAdapters {
    /// Adapter of the gate projection; `None` in ungated experts.
    pub gate: Option<Adapter>,
    /// Adapter of the up projection.
    pub up: Option<Adapter>,
    /// Adapter of the down projection.
    pub down: Option<Adapter>,
}

impl ExpertAdapters {
    /// Whether there is no adapter.
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    /// The LoRAs, in the order gate, up, down.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Lora> {
        self.gate.iter().chain(&self.up).chain(&self.down).map(Adapter::lora)
    }

    /// Whether any LoRA matrix is on an autodiff device.
    pub(super) fn is_tracked(&self) -> bool {
        self.parts().any(|lora| lora.a.device().is_autodiff() || lora.b.device().is_autodiff())
    }

    /// Adds the LoRA deltas of gate and up to `products`, `x` times the fused gate and up weight.
    ///
    /// # Shapes
    /// - `x`: `[n, d_model]`
    /// - `products` and output: `[n, 2 * d_expert]`, ungated `[n, d_expert]`
    ///
    /// # Panics
    /// When an ungated expert's gate has an update.
    pub(super) fn add_to_gate_up(
        &self,
        x: &Tensor<2>,
        products: Tensor<2>,
        gated: bool,
    ) -> Tensor<2> {
        let delta =
            |part: &Option<Adapter>| part.as_ref().map(|part| adapter_delta(part, x.clone()));
        let [gate, up] = [delta(&self.gate), delta(&self.up)];
        assert!(gated || gate.is_none(), "an update of the gate of an ungated expert");
        let both = match (gate, up) {
            (None, None) => return products,
            (None, Some(up)) if !gated => return products + up,
            (Some(gate), Some(up)) => [gate, up],
            (Some(gate), None) => [gate.clone(), gate.zeros_like()],
            (None, Some(up)) => [up.zeros_like(), up],
        };
        products + Tensor::cat(both.to_vec(), 1)
    }

    /// Adds the LoRA delta of down to its output.
    ///
    /// # Shapes
    /// - `inner`: `[n, d_expert]`, the input of down
    /// - `outputs` and output: `[n, d_model]`
    pub(super) fn add_to_down(&self, inner: Tensor<2>, outputs: Tensor<2>) -> Tensor<2> {
        match &self.down {
            Some(down) => outputs + adapter_delta(down, inner),
            None => outputs,
        }
    }
}

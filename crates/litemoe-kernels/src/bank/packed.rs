use burn::tensor::{Tensor, activation};

use super::StoredExpert;
use crate::{pack, silu_mul};

/// One expert, ready for the matrix product.
#[derive(Debug, Clone)]
pub(super) struct PackedExpert {
    pub(super) gated: bool,
    /// Gate and up side by side, `[d_model, 2 * d_expert]`; up alone when ungated.
    pub(super) gate_up: Tensor<2>,
    /// `[d_expert, d_model]`
    pub(super) down: Tensor<2>,
}

impl PackedExpert {
    pub(super) fn new(StoredExpert { gate, up, down }: StoredExpert) -> Self {
        let gated = gate.is_some();
        let gate_up = match gate {
            Some(gate) => Tensor::cat(vec![gate, up], 0),
            None => up,
        };
        Self { gated, gate_up: pack::transposed(gate_up), down: pack::transposed(down) }
    }

    pub(super) fn stored(&self) -> StoredExpert {
        let [d_expert, _] = self.down.dims();
        let gate_up = self.gate_up.clone().transpose();
        let (gate, up) = if self.gated {
            let up = gate_up.clone().narrow(0, d_expert, d_expert);
            (Some(gate_up.narrow(0, 0, d_expert)), up)
        } else {
            (None, gate_up)
        };
        StoredExpert { gate, up, down: self.down.clone().transpose() }
    }

    pub(super) fn shape(&self) -> (bool, [usize; 2], [usize; 2]) {
        (self.gated, self.gate_up.dims(), self.down.dims())
    }

    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = x.matmul(self.gate_up.clone());
        let inner = if self.gated { silu_mul(inner) } else { activation::silu(inner) };
        inner.matmul(self.down.clone())
    }
}

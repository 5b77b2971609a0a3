use burn::tensor::{Tensor, activation};

use crate::silu_mul;

/// What a feed-forward network does between its first matrices and its last.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum HiddenAct {
    /// x·σ(x) (arXiv 1702.03118); gated it is SwiGLU (arXiv 2002.05202).
    #[default]
    Silu,
    /// x·Φ(x), with the error function (arXiv 1606.08415).
    Gelu,
    /// max(x, 0).
    Relu,
    /// gpt-oss' SwiGLU (arXiv 2508.10925): `(clamp(up, ±limit) + 1) · g·σ(alpha·g)` with `g = min(gate, limit)`.
    /// Ungated it leaves the first factor out.
    ClampedSwish {
        /// The sigmoid's gain.
        alpha: f64,
        /// Where gate and up are cut off.
        limit: f64,
    },
}

impl HiddenAct {
    /// Applies it to one matrix's products.
    ///
    /// # Shapes
    /// - `x` and output: `[n, d_hidden]`
    pub fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Gelu => activation::gelu(x),
            Self::Relu => activation::relu(x),
            Self::ClampedSwish { alpha, limit } => {
                let x = x.clamp_max(limit);
                x.clone() * activation::sigmoid(x.mul_scalar(alpha))
            }
        }
    }

    /// Applies it to the gate and multiplies by up, the two side by side.
    ///
    /// # Shapes
    /// - `gate_up`: `[n, 2 * d_hidden]`, the gate in the first half of each row
    /// - output: `[n, d_hidden]`
    pub fn gated(self, gate_up: Tensor<2>) -> Tensor<2> {
        if self == Self::Silu {
            return silu_mul(gate_up);
        }
        let d_hidden = gate_up.dims()[1] / 2;
        let gate = self.apply(gate_up.clone().narrow(1, 0, d_hidden));
        let up = gate_up.narrow(1, d_hidden, d_hidden);
        match self {
            Self::ClampedSwish { limit, .. } => gate * up.clamp(-limit, limit).add_scalar(1.0),
            _ => gate * up,
        }
    }
}

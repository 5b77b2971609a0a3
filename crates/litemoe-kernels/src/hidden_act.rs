use burn::tensor::{Tensor, activation};

use crate::silu_mul;

/// Activation function of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum HiddenAct {
    /// SiLU: x·σ(x) ("Sigmoid-Weighted Linear Units for Neural Network Function Approximation in Reinforcement
    /// Learning", arXiv 1702.03118); gated it is SwiGLU ("GLU Variants Improve Transformer", arXiv 2002.05202).
    #[default]
    Silu,
    /// GELU: x·Φ(x), with the exact error function ("Gaussian Error Linear Units (GELUs)", arXiv 1606.08415).
    Gelu,
    /// ReLU: max(x, 0).
    Relu,
    /// Clamped SwiGLU of gpt-oss ("gpt-oss-120b & gpt-oss-20b Model Card", arXiv 2508.10925):
    /// `(clamp(up, ±limit) + 1) · g·σ(alpha·g)` with `g = min(gate, limit)`. Ungated: without the first factor.
    ClampedSwish {
        /// Factor of the sigmoid's argument.
        alpha: f64,
        /// Clamp limit of gate and up.
        limit: f64,
    },
}

impl HiddenAct {
    /// Applies the ungated activation.
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

    /// Applies the gated activation, `act(gate) * up`.
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

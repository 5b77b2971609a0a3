use burn::tensor::Tensor;
use litemoe_kernels::LinearWeight;

use crate::layers::norm::Norm;

/// LM head: final norm, then projection to logits.
#[derive(Debug)]
pub(crate) struct LmHead {
    pub(crate) norm: Norm,
    pub(crate) weight: LinearWeight,
    /// `[1, vocab]`
    pub(crate) bias: Option<Tensor<2>>,
}

impl LmHead {
    /// Logits before the logits multiplier: `[n, d_model]` → `[n, vocab]`.
    pub(crate) fn forward(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.weight.forward(self.norm.forward(hidden));
        match &self.bias {
            Some(bias) => logits + bias.clone(),
            None => logits,
        }
    }
}

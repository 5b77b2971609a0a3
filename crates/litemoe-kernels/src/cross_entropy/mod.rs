//! Cross-entropy of logits: one pass forward, one backward, no probabilities kept.

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod op;

use burn::tensor::{Int, Tensor, activation::log_softmax};

/// Cross-entropy in nats, summed over the rows: `−Σ log softmax(logits)[target]`.
///
/// Differentiable with respect to the logits. Fused in f32 on the CPU (feature `flex`); plain tensor operations elsewhere.
///
/// # Shapes
/// - `logits`: `[n, vocab]`
/// - `targets`: `[n]`
/// - output: `[1]`
///
/// # Panics
/// When there are not as many targets as rows, or, where it is fused, a target is not below `vocab`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    assert_eq!(logits.dims()[0], targets.dims()[0], "a target for each row of logits");
    #[cfg(feature = "flex")]
    if crate::primitive::is_host(&logits.device()) && logits.dtype() == burn::tensor::DType::F32 {
        return op::cross_entropy(logits, targets);
    }
    reference(logits, targets)
}

/// [`cross_entropy`] from plain tensor operations.
fn reference(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).sum().neg()
}

//! Hand-written backward pass of LoRA.

use burn::tensor::Tensor;
use litemoe_core::Lora;

/// Gradient with respect to the input: `[n, d_out]` → `[n, d_in]`.
pub(super) fn by_input(lora: &Lora, grad: Tensor<2>) -> Tensor<2> {
    let inner = grad.matmul(lora.b.clone().transpose());
    inner.mul_scalar(lora.scale).matmul(lora.a.clone().transpose())
}

/// Gradients with respect to A and B, from the input `x` and the output's gradient.
pub(super) fn by_matrices(lora: &Lora, x: &Tensor<2>, grad: Tensor<2>) -> [Tensor<2>; 2] {
    let inner = grad.clone().matmul(lora.b.clone().transpose()).mul_scalar(lora.scale);
    let by_a = x.clone().matmul(lora.a.clone()).mul_scalar(lora.scale);
    [x.clone().transpose().matmul(inner), by_a.transpose().matmul(grad)]
}

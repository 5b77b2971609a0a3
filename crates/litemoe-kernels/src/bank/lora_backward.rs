//! Hand-written backward pass of LoRA.

use burn::tensor::Tensor;
use litemoe_core::Lora;

/// Gradient with respect to the input: `[n, d_out]` → `[n, d_in]`.
pub(super) fn by_input(lora: &Lora, grad: Tensor<2>) -> Tensor<2> {
    let inner = grad.matmul(lora.b.clone().transpose());
    inner.matmul(lora.a.clone().transpose()).mul_scalar(lora.scale)
}

/// Gradients with respect to A and B, from the input `x` and the output's gradient.
pub(super) fn by_matrices(lora: &Lora, x: &Tensor<2>, grad: Tensor<2>) -> [Tensor<2>; 2] {
    let grad = grad.mul_scalar(lora.scale);
    let a = x.clone().transpose().matmul(grad.clone().matmul(lora.b.clone().transpose()));
    [a, x.clone().matmul(lora.a.clone()).transpose().matmul(grad)]
}

//! The backward of a low-rank update, by hand.

use burn::tensor::Tensor;
use litemoe_core::Lora;

/// The gradient by the input for that by the output: `[n, d_out]` → `[n, d_in]`.
pub(super) fn by_input(lora: &Lora, grad: Tensor<2>) -> Tensor<2> {
    let inner = grad.matmul(lora.b.clone().transpose());
    inner.matmul(lora.a.clone().transpose()).mul_scalar(lora.scale)
}

/// The gradients by A and B for the input `x` and the gradient by the output.
pub(super) fn by_matrices(lora: &Lora, x: &Tensor<2>, grad: Tensor<2>) -> [Tensor<2>; 2] {
    let grad = grad.mul_scalar(lora.scale);
    let a = x.clone().transpose().matmul(grad.clone().matmul(lora.b.clone().transpose()));
    [a, x.clone().matmul(lora.a.clone()).transpose().matmul(grad)]
}

//! Fused SwiGLU activation: one pass forward, one backward, one saved tensor.
//!
//! Pattern of every custom operation in this crate: [`reference()`] composes it from plain tensor operations and is the
//! fallback and the tests' oracle; `op` registers it for Burn's run-time dispatch, with a hand-written backward pass;
//! one file per kind of device implements it.

#[cfg(feature = "wgpu")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod op;

use burn::tensor::{Tensor, activation};

#[cfg(any(feature = "flex", feature = "wgpu"))]
pub(crate) use op::{Kernels, is_fused};

#[cfg(feature = "flex")]
pub(crate) use flex::{row_backward, row_forward};

/// SwiGLU activation of gated experts: `silu(gate) * up`.
///
/// Fused in f32 on devices whose feature is on; plain tensor operations elsewhere.
///
/// # Shapes
/// - `gate_up`: `[n, 2 * d_expert]`, the gate in the first half of each row
/// - output: `[n, d_expert]`
///
/// # Panics
/// When the width is odd.
pub fn silu_mul(gate_up: Tensor<2>) -> Tensor<2> {
    let [_, width] = gate_up.dims();
    assert!(width.is_multiple_of(2), "gate and up of unequal width: {width} together");
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    if op::is_fused(&gate_up) {
        return op::silu_mul(gate_up);
    }
    reference(gate_up)
}

/// [`silu_mul`] from plain tensor operations.
fn reference(gate_up: Tensor<2>) -> Tensor<2> {
    let d_expert = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().narrow(1, 0, d_expert);
    activation::silu(gate) * gate_up.narrow(1, d_expert, d_expert)
}

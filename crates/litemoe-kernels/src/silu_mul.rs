use burn::tensor::{Tensor, activation};

/// The activation of gated experts: `silu(gate) * up`, with gate and up side by side.
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
    reference(gate_up)
}

/// The same from plain tensor operations: the oracle of tests and the fallback.
pub(crate) fn reference(gate_up: Tensor<2>) -> Tensor<2> {
    let d_expert = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().narrow(1, 0, d_expert);
    activation::silu(gate) * gate_up.narrow(1, d_expert, d_expert)
}

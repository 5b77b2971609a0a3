use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use litemoe_kernels::silu_mul;
use proptest::prelude::*;

use crate::case::{assert_close, constant, matrix, matrix_of, tracked};

fn plain(gate_up: Tensor<2>) -> Tensor<2> {
    let [gate, up] = halves(gate_up);
    activation::silu(gate) * up
}

fn halves(gate_up: Tensor<2>) -> [Tensor<2>; 2] {
    let [_, width] = gate_up.dims();
    [gate_up.clone().narrow(1, 0, width / 2), gate_up.narrow(1, width / 2, width / 2)]
}

fn gradient(f: fn(Tensor<2>) -> Tensor<2>, input: &TensorData, weights: &TensorData) -> Tensor<2> {
    let input = tracked(input);
    let gradients = (f(input.clone()) * constant(weights)).sum().backward();
    input.grad(&gradients).expect("the input's gradient")
}

/// Compares each element on its own scale. Below -87 the sigmoid stays at 1e-38, below the smallest unit here.
fn assert_output_close(input: Tensor<2>) {
    let expected = plain(input.clone());
    let unit = expected.clone().abs().clamp_min(1e-20);
    assert_close(silu_mul(input), expected, unit, 1e-6);
}

/// As [`assert_output_close`]. The gate's gradient has two terms that cancel around -1.28, and one minus the sigmoid
/// cancels for large gates.
fn assert_gradient_close(input: &TensorData, weights: &TensorData) {
    let [gate, up] = halves(constant(input).abs());
    let [sigmoid, _] = halves(activation::sigmoid(constant(input)));
    let slope = gate.clone() * (1. - sigmoid.clone()) + 1.;
    let by_output = sigmoid * constant(weights).abs();
    let units = [up * slope * by_output.clone(), gate * by_output];
    let ours = halves(gradient(silu_mul, input, weights));
    let expected = halves(gradient(plain, input, weights));
    for (((ours, expected), unit), tolerance) in
        ours.into_iter().zip(expected).zip(units).zip([2e-6, 1e-6])
    {
        assert_close(ours, expected, unit.clamp_min(1e-20), tolerance);
    }
}

/// Ordinary values, and values where the sigmoid is 0 or 1 in f32.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -10f32..10.,
        1 => prop_oneof![Just(0.), Just(-0.), Just(-1e-38), -1e4f32..-80., 80f32..1e4],
    ]
}

proptest! {
    #[test]
    fn equals_plain_operations(
        (input, weights) in (0usize..20, 1usize..40).prop_flat_map(|(n, d_expert)| {
            (matrix_of(n, 2 * d_expert, value()), matrix(n, d_expert))
        }),
    ) {
        assert_output_close(constant(&input));
        if input.num_elements() > 0 {
            assert_gradient_close(&input, &weights);
        }
    }

    #[test]
    fn equals_plain_operations_on_views(input in matrix_of(8, 6, value())) {
        assert_output_close(constant(&input).transpose());
        assert_output_close(constant(&input).narrow(0, 2, 3));
    }
}

#[test]
fn many_rows_equal_plain_operations() {
    let values = (0..600 * 192).map(|i| ((i * 37 % 1001) as f32 - 500.) / 50.).collect();
    let input = TensorData::new::<f32, _>(values, [600, 192]);
    let weights = TensorData::ones::<f32, _>([600, 96]);
    assert_output_close(constant(&input));
    assert_gradient_close(&input, &weights);
}

#[test]
fn nan_stays_nan() {
    let input = Tensor::<2>::from_data([[f32::NAN, 1., 1., f32::NAN]], &Device::flex());
    assert!(silu_mul(input).is_nan().all().into_scalar::<bool>());
}

#[test]
fn other_dtypes_take_the_plain_way() {
    let input = Tensor::<2>::from_data([[1f64, -2., 3., 4.]], (&Device::flex(), DType::F64));
    let output = silu_mul(input.clone());
    assert_eq!(output.dtype(), DType::F64);
    output.into_data().assert_eq(&plain(input).into_data(), true);
}

#[test]
#[should_panic(expected = "unequal width")]
fn an_odd_width_is_refused() {
    silu_mul(Tensor::zeros([2, 3], &Device::flex()));
}

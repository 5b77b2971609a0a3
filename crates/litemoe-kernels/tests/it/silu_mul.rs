use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use litemoe_kernels::silu_mul;
use proptest::prelude::*;

use crate::case::{assert_close, constant, matrix, matrix_of, tracked};

fn plain(gate_up: Tensor<2>) -> Tensor<2> {
    let [_, width] = gate_up.dims();
    let (gate, up) =
        (gate_up.clone().narrow(1, 0, width / 2), gate_up.narrow(1, width / 2, width / 2));
    activation::silu(gate) * up
}

fn gradient(f: fn(Tensor<2>) -> Tensor<2>, input: &TensorData, weights: &TensorData) -> Tensor<2> {
    let input = tracked(input);
    let gradients = (f(input.clone()) * constant(weights)).sum().backward();
    input.grad(&gradients).expect("the input's gradient")
}

/// Ordinary values, and ones where the sigmoid is 0 or 1 in f32.
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
        assert_close(silu_mul(constant(&input)), plain(constant(&input)), 1e-6);
        if input.num_elements() > 0 {
            assert_close(gradient(silu_mul, &input, &weights), gradient(plain, &input, &weights), 1e-6);
        }
    }

    #[test]
    fn equals_plain_operations_on_views(input in matrix_of(8, 6, value())) {
        let columns = constant(&input).transpose();
        assert_close(silu_mul(columns.clone()), plain(columns), 1e-6);
        let rows = constant(&input).narrow(0, 2, 3);
        assert_close(silu_mul(rows.clone()), plain(rows), 1e-6);
    }
}

#[test]
fn many_rows_equal_plain_operations() {
    let values = (0..600 * 192).map(|i| ((i * 37 % 1001) as f32 - 500.) / 50.).collect();
    let input = TensorData::new::<f32, _>(values, [600, 192]);
    let weights = TensorData::ones::<f32, _>([600, 96]);
    assert_close(silu_mul(constant(&input)), plain(constant(&input)), 1e-6);
    assert_close(gradient(silu_mul, &input, &weights), gradient(plain, &input, &weights), 1e-6);
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

//! Packed weights: products and gradients against those with the dequantised weights.

use burn::tensor::{Device, Int, Tensor, TensorData};
use litemoe_core::{ExpertWeights, WeightDtype};
use litemoe_kernels::{ExpertBank, ExpertVisit, LinearWeight, can_pack};
use proptest::prelude::*;

use crate::bank::{Case, case};
use crate::case::{constant, floats, magnitudes, matrix, tracked};

fn packed() -> impl Strategy<Value = WeightDtype> {
    prop::sample::select(&[WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4])
}

/// Bound of a product's error, in units of the largest sum of magnitudes.
fn bound(dtype: WeightDtype) -> f32 {
    if dtype == WeightDtype::Bf16 { 4e-3 } else { 1e-2 }
}

fn largest(tensor: Tensor<2>) -> f32 {
    floats(tensor.abs()).into_iter().fold(0., f32::max)
}

proptest! {
    #[test]
    fn a_linear_layer_is_the_product_with_the_dequantised_weight(
        dtype in packed(),
        (x, weight, grad) in (1usize..20, 1usize..70, 1usize..40).prop_flat_map(|(n, d_in, d_out)| {
            (matrix(n, d_in), matrix(d_out, d_in), matrix(n, d_out))
        }),
    ) {
        let linear = LinearWeight::from_stored(constant(&weight), dtype);
        let stored = linear.stored();
        prop_assert_eq!(stored.dims(), constant(&weight).dims());
        let (x_unit, weight_unit) = (constant(&magnitudes(&x)), stored.clone().abs());
        let difference = linear.forward(constant(&x)) - constant(&x).matmul(stored.clone().transpose());
        let unit = largest(x_unit.matmul(weight_unit.clone().transpose()));
        prop_assert!(largest(difference) <= bound(dtype) * unit);
        let leaf = tracked(&x);
        let gradients = (linear.forward(leaf.clone()) * constant(&grad)).sum().backward();
        let gradient = leaf.grad(&gradients).expect("the input's gradient");
        let unit = constant(&magnitudes(&grad)).matmul(weight_unit);
        let difference = gradient - constant(&grad).matmul(stored);
        prop_assert!(largest(difference) <= 8e-3 * largest(unit));
    }

    /// The dequantised experts are experts of an f32 bank.
    #[test]
    fn a_bank_is_that_of_its_dequantised_experts(dtype in packed(), case in case()) {
        let n_experts = case.experts.len();
        prop_assume!(case.chosen.iter().flatten().any(|&expert| expert < n_experts));
        assert_is_dequantised(&case, dtype);
    }

    /// One call for all experts without a visitor, plain operations expert by expert with one.
    #[test]
    fn fused_experts_have_the_bits_of_plain_operations(dtype in packed(), case in case()) {
        let mut bank = ExpertBank::with_capacity(case.experts.len()).packed_as(dtype);
        case.stored().into_iter().for_each(|expert| bank.push(expert));
        let forward = |visit: Option<ExpertVisit<'_>>| {
            bank.forward(constant(&case.x), case.chosen(), constant(&case.gates), visit)
        };
        let plain = forward(Some(ExpertVisit { see: &mut |_| (), wants_inner: false }));
        prop_assert_eq!(floats(forward(None)), floats(plain));
    }
}

/// Compares outputs and gradients of packed experts with those of an f32 bank of the dequantised ones.
fn assert_is_dequantised(case: &Case, dtype: WeightDtype) {
    let n_experts = case.experts.len();
    let mut bank = ExpertBank::with_capacity(n_experts).packed_as(dtype);
    case.stored().into_iter().for_each(|expert| bank.push(expert));
    let plain = ExpertBank::new((0..n_experts).map(|expert| bank.stored(expert)).collect());
    // Products of products: up to three roundings, of inputs that silu and up make larger.
    let units = results(&case.unit(), &magnitudes_of(&plain, n_experts));
    let pairs = results(case, &bank).into_iter().zip(results(case, &plain));
    for (((ours, theirs), unit), what) in pairs.zip(units).zip(["outputs", "inputs", "gates"]) {
        let difference = largest(ours - theirs) / largest(unit).max(f32::MIN_POSITIVE);
        assert!(difference <= 4. * bound(dtype), "{what}, {dtype}: {difference}");
    }
}

/// Outputs, and gradients with respect to the inputs and the gates.
fn results(case: &Case, bank: &ExpertBank) -> [Tensor<2>; 3] {
    let (x, gates) = (tracked(&case.x), tracked(&case.gates));
    let output = bank.forward(x.clone(), case.chosen(), gates.clone(), None);
    let gradients = (output.clone() * constant(&case.grad)).sum().backward();
    let of = |leaf: &Tensor<2>| leaf.grad(&gradients).expect("the leaf's gradient");
    [output.inner(), of(&x), of(&gates)]
}

/// Several panels and blocks, the last ones not whole, and tokens in no order of experts.
#[test]
fn a_bank_of_wide_experts_is_that_of_its_dequantised_experts() {
    let (tokens, d_model, d_expert, n_experts) = (45, 70, 150, 3);
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.
    };
    let mut matrix = |rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns).map(|_| number()).collect();
        TensorData::new(values, [rows, columns])
    };
    let mut expert =
        || [matrix(d_expert, d_model), matrix(d_expert, d_model), matrix(d_model, d_expert)];
    let experts = (0..n_experts).map(|_| expert()).collect();
    let case = Case {
        experts,
        gated: true,
        x: matrix(tokens, d_model),
        // One token in seven has a single expert.
        chosen: (0..tokens)
            .map(|at| vec![at % 3, if at % 7 == 0 { 3 } else { (at + 1) % 3 }])
            .collect(),
        gates: matrix(tokens, 2),
        grad: matrix(tokens, d_model),
    };
    for dtype in [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4] {
        assert_is_dequantised(&case, dtype);
    }
}

fn magnitudes_of(bank: &ExpertBank, n_experts: usize) -> ExpertBank {
    let expert = |expert| {
        let ExpertWeights { gate, up, down, biases } = bank.stored(expert);
        ExpertWeights { gate: gate.map(Tensor::abs), up: up.abs(), down: down.abs(), biases }
    };
    ExpertBank::new((0..n_experts).map(expert).collect())
}

#[test]
fn rows_are_those_of_the_dequantised_weight() {
    let device = Device::flex();
    let weight = Tensor::<1, Int>::arange(0..70 * 33, &device).float().reshape([70, 33]);
    for dtype in [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4] {
        let linear = LinearWeight::from_stored(weight.clone(), dtype);
        let indices = Tensor::<1, Int>::from_data([69_i64, 0, 7, 7, 31], &device);
        let expected = linear.stored().select(0, indices.clone());
        linear.stored_rows(indices).into_data().assert_eq(&expected.into_data(), true);
    }
}

#[test]
fn the_cpu_has_all_formats() {
    assert!(WeightDtype::ALL.iter().all(|&dtype| can_pack(&Device::flex(), dtype)));
}

#[test]
#[should_panic(expected = "row 2 of the weight has a value that q8 cannot hold")]
fn a_tensor_that_a_format_cannot_hold_is_refused() {
    let weight = Tensor::<2>::from_data([[1.], [2.], [f32::NAN]], &Device::flex());
    let _ = LinearWeight::from_stored(weight, WeightDtype::Q8);
}

#[test]
#[should_panic(expected = "the format of a bank with experts")]
fn a_bank_with_experts_keeps_its_format() {
    let mut bank = ExpertBank::with_capacity(2);
    bank.push_absent();
    let _ = bank.packed_as(WeightDtype::Q8);
}

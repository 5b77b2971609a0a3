use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use litemoe_kernels::cross_entropy;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::case::{assert_close, constant, floats, matrix_of, tracked};

fn plain(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).sum().neg()
}

fn indices(targets: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(targets, &Device::flex())
}

/// The sum, and the gradient of `factor` times it.
fn sum_and_gradient(
    f: impl Fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>,
    logits: &TensorData,
    targets: &[i64],
    factor: f32,
) -> (Tensor<1>, Tensor<2>) {
    let logits = tracked(logits);
    let sum = f(logits.clone(), indices(targets));
    let gradients = sum.clone().mul_scalar(factor).backward();
    (sum.inner(), logits.grad(&gradients).expect("the gradient of the logits"))
}

/// Ordinary logits, and some that leave the others without probability.
fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![9 => -8f32..8., 1 => -300f32..300.]
}

fn case() -> impl Strategy<Value = (TensorData, Vec<i64>)> {
    (1usize..9, 1usize..70)
        .prop_flat_map(|(n, vocab)| (matrix_of(n, vocab, logit()), vec(0..vocab as i64, n)))
}

proptest! {
    #[test]
    fn equals_plain_operations((logits, targets) in case(), factor in -2f32..2.) {
        let (sum, gradient) = sum_and_gradient(cross_entropy, &logits, &targets, factor);
        let (expected, expected_gradient) = sum_and_gradient(plain, &logits, &targets, factor);
        // A row's term is a difference of numbers as large as its logits.
        let unit = constant(&logits).abs().max_dim(1).sum() + targets.len() as f32;
        assert_close(sum, expected, unit, 1e-6);
        // Probabilities below 1e-37 stay there. The difference to the target's 1 cancels.
        let unit = expected_gradient.ones_like();
        assert_close(gradient, expected_gradient, unit, 1e-4);
    }
}

#[test]
fn equal_logits_cost_the_logarithm_of_their_number() {
    let logits = TensorData::new(vec![3f32; 3 * 50], [3, 50]);
    let (sum, gradient) = sum_and_gradient(cross_entropy, &logits, &[0, 7, 49], 1.);
    let [sum] = floats(sum)[..] else { panic!("one sum") };
    assert!((sum - 3. * 50f32.ln()).abs() < 1e-5, "{sum}");
    for (row, target) in floats(gradient).chunks(50).zip([0, 7, 49]) {
        for (at, gradient) in row.iter().enumerate() {
            let expected = 0.02 - if at == target { 1. } else { 0. };
            assert!((gradient - expected).abs() < 1e-6, "{at}: {gradient}");
        }
    }
}

#[test]
fn logits_are_unchanged_where_others_hold_them() {
    let data = TensorData::new(vec![0.5f32, 1., -2., 0.], [2, 2]);
    let logits = tracked(&data);
    let held = logits.clone().inner();
    let gradients = cross_entropy(logits.clone(), indices(&[0, 1])).backward();
    assert!(logits.grad(&gradients).is_some());
    assert_eq!(floats(held), floats(constant(&data)));
}

#[test]
fn views_of_logits_have_their_own_gradients() {
    let data = TensorData::new((0..12).map(|at| (at * 7 % 5) as f32).collect::<Vec<_>>(), [3, 4]);
    let targets = [3, 1];
    for f in [cross_entropy, plain] {
        let whole = tracked(&data);
        let gradients = f(whole.clone().narrow(0, 1, 2), indices(&targets)).backward();
        let found = floats(whole.grad(&gradients).expect("the gradient of the logits"));
        let probabilities = floats(burn::tensor::activation::softmax(constant(&data), 1));
        for (at, (found, probability)) in found.iter().zip(probabilities).enumerate() {
            let expected = match at / 4 {
                0 => 0.,
                row => probability - if at % 4 == targets[row - 1] as usize { 1. } else { 0. },
            };
            assert!((found - expected).abs() < 1e-6, "{at}: {found} is not {expected}");
        }
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    for bad in [f32::NAN, f32::INFINITY] {
        let logits = TensorData::new(vec![0.5f32, bad, 1.], [1, 3]);
        let [sum] = floats(cross_entropy(constant(&logits), indices(&[0])))[..] else {
            panic!("one sum")
        };
        assert!(sum.is_nan(), "{bad}: {sum}");
    }
}

#[test]
#[should_panic(expected = "target 3 of 3 logits")]
fn a_target_outside_the_vocabulary_panics() {
    let logits = TensorData::new(vec![0f32; 3], [1, 3]);
    let _ = cross_entropy(constant(&logits), indices(&[3]));
}

use litemoe_core::{AbsorbedExpert, ExpertWeights, Group, LayerId, LayerPlan};
use litemoe_merge::{MergeError, merged_expert, merged_experts};
use proptest::prelude::*;

use crate::experts::{Experts, assert_close, permuted, values};

const LAYER: LayerId = LayerId::decoder(4);

fn absorbed(expert: usize, share: f64) -> AbsorbedExpert {
    AbsorbedExpert { expert, share, alignment: None }
}

fn group(centroid: usize, share: f64, absorbed: Vec<AbsorbedExpert>) -> Group {
    Group { centroid, share, absorbed }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn merging_equal_experts_gives_that_expert_bit_for_bit(seed: u64, share in 0.0f64..1.0) {
        let mut source = Experts::random(3, 1, 4, seed);
        let centroid = source.experts[1][1].clone();
        source.experts[1][0] = centroid.clone();
        source.experts[1][2] = permuted(&centroid, &[2, 0, 3, 1]);
        let back = AbsorbedExpert { alignment: Some(vec![1, 3, 0, 2]), ..absorbed(2, share * 0.25) };
        let group = group(1, 1.0 - share, vec![absorbed(0, share * 0.75), back]);
        prop_assert_eq!(values(&merged_expert(LAYER, &group, &source).unwrap()), values(&centroid));
    }

    #[test]
    fn merged_weights_are_the_shares_sum(seed: u64, share in 0.0f64..1.0) {
        let source = Experts::random(3, 1, 4, seed);
        let order = [3, 1, 0, 2];
        let moved = AbsorbedExpert { alignment: Some(order.to_vec()), ..absorbed(2, share * 0.5) };
        let group = group(0, 1.0 - share, vec![absorbed(1, share * 0.5), moved]);
        let [centroid, first, second] = &source.experts[1][..] else { unreachable!() };
        let second = permuted(second, &order.map(|neuron| neuron as usize));
        let parts = [(centroid, 1.0 - share), (first, share * 0.5), (&second, share * 0.5)];
        let mut expected = vec![0.0; values(centroid).len()];
        for (expert, share) in parts {
            for (sum, value) in expected.iter_mut().zip(values(expert)) {
                *sum += share as f32 * value;
            }
        }
        assert_close(&values(&merged_expert(LAYER, &group, &source).unwrap()), &expected);
    }
}

#[test]
fn experts_kept_as_they_are_are_not_read() {
    let mut source = Experts::random(4, 1, 4, 0);
    source.experts[1].truncate(2);
    let plan = LayerPlan {
        n_experts: 4,
        groups: vec![group(0, 0.5, vec![absorbed(1, 0.5)]), Group::single(2)],
        removed: vec![3],
    };
    let merged = merged_experts(LAYER, &plan, &source).unwrap();
    assert_eq!(merged.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn experts_that_do_not_fit_their_host_are_refused() {
    let plain = Experts::random(2, 1, 4, 0);
    let merge = |weights: ExpertWeights, alignment| {
        let mut source = Experts::random(2, 1, 4, 0);
        source.experts[1][1] = weights;
        let absorbed = AbsorbedExpert { alignment, ..absorbed(1, 0.5) };
        merged_expert(LAYER, &group(0, 0.5, vec![absorbed]), &source).unwrap_err()
    };
    let fine = plain.experts[1][1].clone();
    let narrow = Experts::random(2, 1, 3, 0).experts[1][1].clone();
    assert_eq!(
        merge(narrow, None).to_string(),
        "layer 4 expert 1: up has the shape [3, 5], but that of its centroid is [4, 5]"
    );
    let ungated = ExpertWeights { gate: None, ..fine.clone() };
    assert!(matches!(merge(ungated, None), MergeError::Gate { .. }));
    let unbiased = ExpertWeights { biases: None, ..fine.clone() };
    assert!(matches!(merge(unbiased, None), MergeError::Bias { .. }));
    for order in [vec![0, 1, 2], vec![0, 1, 2, 2], vec![0, 1, 2, 4]] {
        assert!(matches!(merge(fine.clone(), Some(order)), MergeError::NotAPermutation { .. }));
    }
}

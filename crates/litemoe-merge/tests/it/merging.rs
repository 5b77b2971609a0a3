use litemoe_core::{ExpertWeights, Group, LayerId, LayerPlan, Member};
use litemoe_merge::{MergeError, merged_expert, merged_experts};
use proptest::prelude::*;

use crate::experts::{Experts, assert_close, permuted, values};

const LAYER: LayerId = LayerId::decoder(4);

fn member(expert: usize, share: f64) -> Member {
    Member { expert, share, alignment: None }
}

fn group(host: usize, share: f64, members: Vec<Member>) -> Group {
    Group { host, share, members }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn merging_equal_experts_gives_that_expert_bit_for_bit(seed: u64, share in 0.0f64..1.0) {
        let mut source = Experts::random(3, 1, 4, seed);
        let host = source.experts[1][1].clone();
        source.experts[1][0] = host.clone();
        source.experts[1][2] = permuted(&host, &[2, 0, 3, 1]);
        let back = Member { alignment: Some(vec![1, 3, 0, 2]), ..member(2, share * 0.25) };
        let group = group(1, 1.0 - share, vec![member(0, share * 0.75), back]);
        prop_assert_eq!(values(&merged_expert(LAYER, &group, &source).unwrap()), values(&host));
    }

    #[test]
    fn merged_weights_are_the_shares_sum(seed: u64, share in 0.0f64..1.0) {
        let source = Experts::random(3, 1, 4, seed);
        let order = [3, 1, 0, 2];
        let moved = Member { alignment: Some(order.to_vec()), ..member(2, share * 0.5) };
        let group = group(0, 1.0 - share, vec![member(1, share * 0.5), moved]);
        let [host, first, second] = &source.experts[1][..] else { unreachable!() };
        let second = permuted(second, &order.map(|neuron| neuron as usize));
        let parts = [(host, 1.0 - share), (first, share * 0.5), (&second, share * 0.5)];
        let mut expected = vec![0.0; values(host).len()];
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
        groups: vec![group(0, 0.5, vec![member(1, 0.5)]), Group::single(2)],
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
        let member = Member { alignment, ..member(1, 0.5) };
        merged_expert(LAYER, &group(0, 0.5, vec![member]), &source).unwrap_err()
    };
    let fine = plain.experts[1][1].clone();
    let narrow = Experts::random(2, 1, 3, 0).experts[1][1].clone();
    assert_eq!(
        merge(narrow, None).to_string(),
        "layer 4 expert 1: up has the shape [3, 5], but that of its host is [4, 5]"
    );
    let ungated = ExpertWeights { gate: None, ..fine.clone() };
    assert!(matches!(merge(ungated, None), MergeError::Gate { .. }));
    let unbiased = ExpertWeights { biases: None, ..fine.clone() };
    assert!(matches!(merge(unbiased, None), MergeError::Bias { .. }));
    for order in [vec![0, 1, 2], vec![0, 1, 2, 2], vec![0, 1, 2, 4]] {
        assert!(matches!(merge(fine.clone(), Some(order)), MergeError::NotAPermutation { .. }));
    }
}

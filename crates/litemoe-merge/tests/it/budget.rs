use litemoe_core::{Budget, ExpertGroups, LayerId, MoeLayer};
use litemoe_merge::{MergeError, kept_per_layer};
use proptest::prelude::*;

fn layers(n_layers: usize, n_experts: usize, top_k: usize, expert_bytes: u64) -> Vec<MoeLayer> {
    let layer = |block| MoeLayer {
        id: LayerId::decoder(block),
        n_experts,
        top_k,
        groups: None,
        d_model: 1,
        d_expert: 1,
        expert_bytes,
    };
    (0..n_layers).map(layer).collect()
}

proptest! {
    #[test]
    fn the_count_meets_the_budget_and_one_more_would_not(
        n_layers in 1usize..5, n_experts in 1usize..40, bytes in 1u64..1000, allowed in 1u64..200_000,
    ) {
        let layers = layers(n_layers, n_experts, 0, bytes);
        let kept = kept_per_layer(Budget::Bytes(allowed), &layers).unwrap();
        let of = |kept: usize| (kept * n_layers) as u64 * bytes;
        prop_assert!(of(kept) <= allowed);
        prop_assert!(kept == n_experts || of(kept + 1) > allowed);
    }
}

#[test]
fn shares_are_of_the_expert_bytes() {
    let layers = layers(6, 32, 2, 110_592);
    assert_eq!(kept_per_layer(Budget::Share(0.33), &layers).unwrap(), 10);
    assert_eq!(kept_per_layer(Budget::Share(1.0), &layers).unwrap(), 32);
    assert_eq!(kept_per_layer(Budget::Bytes(u64::MAX), &layers).unwrap(), 32);
    assert_eq!(kept_per_layer(Budget::Share(2.0 / 32.0), &layers).unwrap(), 2);
}

#[test]
fn groups_keep_whole_rounds() {
    let grouped = |min_kept| {
        let groups = Some(ExpertGroups { n_groups: 4, min_kept });
        layers(3, 16, 3, 100).into_iter().map(|layer| MoeLayer { groups, ..layer }).collect()
    };
    let layers: Vec<MoeLayer> = grouped(1);
    assert_eq!(kept_per_layer(Budget::Bytes(3 * 11 * 100), &layers).unwrap(), 8);
    assert_eq!(kept_per_layer(Budget::Bytes(3 * 4 * 100), &layers).unwrap(), 4);
    let layers: Vec<MoeLayer> = grouped(2);
    let error = kept_per_layer(Budget::Bytes(3 * 7 * 100), &layers).unwrap_err();
    let MergeError::BudgetTooSmall { least: 8, kept: 4, needed: 2400, .. } = error else {
        panic!("{error}");
    };
}

#[test]
fn fewer_than_every_token_needs_is_refused() {
    let layers = layers(6, 32, 2, 100);
    for budget in [Budget::Share(0.0), Budget::Bytes(0), Budget::Bytes(6 * 200 - 1)] {
        let error = kept_per_layer(budget, &layers).unwrap_err();
        let MergeError::BudgetTooSmall { least: 2, needed: 1200, total: 19_200, kept, .. } = error
        else {
            panic!("{error}");
        };
        assert!(kept < 2);
    }
    assert!(matches!(kept_per_layer(Budget::Share(0.5), &[]), Err(MergeError::NoExperts)));
}

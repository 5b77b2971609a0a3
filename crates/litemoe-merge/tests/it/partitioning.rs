use litemoe_merge::partition;
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_expert_is_in_one_part_and_the_parts_are_in_order(
        scores in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), 0.0f64..10.0], 1..20),
        kept in 0usize..25,
        alpha in 0.0f64..2.0,
    ) {
        let parts = partition(&scores, kept, 1, alpha);
        let mut all = [parts.hot.clone(), parts.moderate.clone(), parts.cold.clone()].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..scores.len()).collect::<Vec<_>>());
        prop_assert_eq!(parts.hot.len(), kept.min(scores.len()));
        prop_assert!([&parts.hot, &parts.moderate, &parts.cold].iter().all(|part| part.is_sorted()));
        let uniform = scores.iter().sum::<f64>() / scores.len() as f64;
        for &expert in parts.moderate.iter().chain(&parts.cold) {
            prop_assert_eq!(parts.cold.contains(&expert), scores[expert] < alpha * uniform);
            for &hot in &parts.hot {
                prop_assert!((scores[hot], expert) > (scores[expert], hot));
            }
        }
    }
}

#[test]
fn every_group_keeps_its_own_best() {
    let scores = [5.0, 6.0, 4.0, 0.0, 1.0, 0.5, 2.0, 0.1];
    let parts = partition(&scores, 4, 2, 0.3);
    assert_eq!(parts.hot, [0, 1, 4, 6]);
    assert_eq!(parts.moderate, [2]);
    assert_eq!(parts.cold, [3, 5, 7]);
}

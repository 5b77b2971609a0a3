use litemoe_merge::match_to_centroids;
use proptest::prelude::*;

/// A symmetric similarity matrix over `n` experts, and which of them are centroids.
fn problems() -> impl Strategy<Value = (Vec<Vec<f64>>, Vec<usize>, Vec<usize>)> {
    (2usize..8).prop_flat_map(|n| {
        let entries = prop::collection::vec(-0.3f64..1.0, n * n);
        let centroids = prop::collection::vec(any::<bool>(), n);
        (entries, centroids).prop_map(move |(entries, centroids)| {
            let table = (0..n).map(|i| (0..n).map(|j| entries[i.min(j) * n + i.max(j)]).collect());
            let (hot, moderate) = (0..n).partition(|&expert| centroids[expert]);
            (table.collect(), moderate, hot)
        })
    })
}

/// The maximal total similarity, by trying every allowed matching.
fn brute_force(
    table: &[Vec<f64>],
    moderate: &[usize],
    centroids: &[usize],
    places: &mut [usize],
) -> f64 {
    let Some((&first, rest)) = moderate.split_first() else { return 0.0 };
    let mut best = brute_force(table, rest, centroids, places);
    for (index, &centroid) in centroids.iter().enumerate() {
        if places[index] > 0 {
            places[index] -= 1;
            best = best.max(table[first][centroid] + brute_force(table, rest, centroids, places));
            places[index] += 1;
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_matching_is_the_best_there_is((table, moderate, centroids) in problems(), max_merged in 0usize..4) {
        let found = match_to_centroids(&table, &moderate, &centroids, max_merged);
        prop_assert_eq!(found.len(), moderate.len());
        for centroid in &centroids {
            let absorbed = found.iter().filter(|&&to| to == Some(*centroid)).count();
            prop_assert!(absorbed <= max_merged);
        }
        let chosen = moderate.iter().zip(&found).filter_map(|(&from, to)| Some(table[from][(*to)?]));
        let best = brute_force(&table, &moderate, &centroids, &mut vec![max_merged; centroids.len()]);
        prop_assert!((chosen.sum::<f64>() - best).abs() < 1e-9);
        prop_assert!(found.iter().flatten().all(|centroid| centroids.contains(centroid)));
    }
}

#[test]
fn experts_beyond_the_places_stay_without_a_host() {
    let table = vec![vec![1.0; 6]; 6];
    let found = match_to_centroids(&table, &[0, 1, 2, 3, 4], &[5], 3);
    assert_eq!(found.iter().flatten().count(), 3);
}

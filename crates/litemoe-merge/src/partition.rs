/// Hot/moderate/cold partition of a layer's experts by score (LiteMoE §3.2), each part ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// Kept.
    pub hot: Vec<usize>,
    /// Absorbed by hot experts, or pruned if nothing is merged.
    pub moderate: Vec<usize>,
    /// Pruned.
    pub cold: Vec<usize>,
}

/// Partitions a layer's experts by score: the `kept` highest are hot (ties go to the lower index). The others are cold
/// below `alpha` times the mean score, and moderate otherwise.
///
/// Each of `n_groups` equal consecutive groups of experts keeps `kept / n_groups`.
///
/// # Panics
/// If `n_groups` is 0.
pub fn partition(scores: &[f64], kept: usize, n_groups: usize, alpha: f64) -> Partition {
    let mut hot = Vec::new();
    let size = scores.len().div_ceil(n_groups).max(1);
    for (group, scores) in scores.chunks(size).enumerate() {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]).then(i.cmp(&j)));
        order.truncate(kept / n_groups);
        order.sort_unstable();
        hot.extend(order.into_iter().map(|expert| group * size + expert));
    }
    let threshold = alpha * scores.iter().sum::<f64>() / scores.len() as f64;
    let others = (0..scores.len()).filter(|expert| hot.binary_search(expert).is_err());
    let (cold, moderate) = others.partition(|&expert| scores[expert] < threshold);
    Partition { hot, moderate, cold }
}

/// The experts of a layer by how much they matter (LiteMoE §3.2), each part ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// Kept.
    pub hot: Vec<usize>,
    /// Merged into hot experts, or removed where nothing is merged.
    pub moderate: Vec<usize>,
    /// Removed.
    pub cold: Vec<usize>,
}

/// Parts a layer's experts by their scores: the `kept` highest are hot (ties go to the lower index), the others are
/// cold below `alpha` times the uniform share of the layer's score mass, and moderate from there on.
///
/// Of `n_groups` equal runs of experts, each keeps as many: `kept / n_groups`.
///
/// # Panics
/// When there are no groups.
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

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
pub fn partition(scores: &[f64], kept: usize, alpha: f64) -> Partition {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]).then(i.cmp(&j)));
    let mut hot: Vec<usize> = order.drain(..kept.min(order.len())).collect();
    hot.sort_unstable();
    order.sort_unstable();
    let threshold = alpha * scores.iter().sum::<f64>() / scores.len() as f64;
    let (cold, moderate) = order.into_iter().partition(|&expert| scores[expert] < threshold);
    Partition { hot, moderate, cold }
}

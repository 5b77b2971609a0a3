use crate::LayerSums;

/// Soft counting of heavy hitters ("SEER-MoE: Sparse Expert Efficiency through Regularization for Mixture-of-Experts",
/// arXiv 2404.05089): Σ g over X_e.
pub fn soft_count(sums: &LayerSums) -> Vec<f64> {
    sums.gate.values().to_vec()
}

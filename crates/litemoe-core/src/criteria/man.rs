use super::means::means;
use crate::LayerSums;

/// Mean activation norm, MAN ("How to Score Experts for One-Shot MoE Expert Pruning: A Unified Formulation and Selection
/// Principle", arXiv 2606.15716): S(1, 0, 1) = Σ ‖f‖ / |X_e| over X_e; 0 where X_e is empty.
pub fn man(sums: &LayerSums) -> Vec<f64> {
    means(sums.norm.values(), &sums.count)
}

use crate::LayerSums;

/// Task-specific optimum of the unified formulation ("How to Score Experts for One-Shot MoE Expert Pruning: A Unified
/// Formulation and Selection Principle", arXiv 2606.15716): S(0, 1, 1) = Σ g·‖f‖ over X_e.
pub fn task(sums: &LayerSums) -> Vec<f64> {
    sums.gate_norm.values().to_vec()
}

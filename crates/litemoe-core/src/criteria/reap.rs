use super::means::means;
use crate::LayerSums;

/// Router-weighted expert activation pruning, REAP ("REAP the Experts: Why Pruning Prevails for One-Shot MoE
/// Compression", arXiv 2510.13999): Σ g·‖f‖ / |X_e| over X_e; 0 where X_e is empty.
pub fn reap(sums: &LayerSums) -> Vec<f64> {
    means(sums.gate_norm.values(), &sums.count)
}

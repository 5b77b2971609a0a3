use crate::LayerSums;

/// Expert activation norm, EAN ("Finding Fantastic Experts in MoEs: A Unified Study for Expert Dropping Strategies and
/// Observations", arXiv 2504.05586): Σ ‖f‖ over X_e.
pub fn ean(sums: &LayerSums) -> Vec<f64> {
    sums.norm.values().to_vec()
}

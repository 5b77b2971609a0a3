use super::kind::SimilarityKind;
use super::{affinity, expert_output_gated};
use crate::LayerSums;

impl SimilarityKind {
    /// `n_experts` rows of `n_experts` values; `None` where what they are computed from was not measured. `kappa` is that of
    /// the affinity.
    pub fn table(self, sums: &LayerSums, kappa: f64) -> Option<Vec<Vec<f64>>> {
        match self {
            _ if !sums.is_consistent() => None,
            Self::Affinity => affinity(sums, kappa),
            Self::ExpertOutputGated => expert_output_gated(sums),
        }
    }
}

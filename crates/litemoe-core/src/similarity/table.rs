use super::kind::SimilarityKind;
use super::{affinity, expert_output_gated};
use crate::LayerSums;

impl SimilarityKind {
    /// Similarity matrix, `n_experts` × `n_experts`; `None` if the sums it needs were not measured. `kappa` is used by
    /// [`Self::Affinity`] only.
    pub fn table(self, sums: &LayerSums, kappa: f64) -> Option<Vec<Vec<f64>>> {
        match self {
            _ if !sums.is_consistent() => None,
            Self::Affinity => affinity(sums, kappa),
            Self::ExpertOutputGated => expert_output_gated(sums),
        }
    }
}

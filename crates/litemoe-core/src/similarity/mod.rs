//! How alike two experts of a layer are: a function from the layer's sums to a symmetric table, a file each.

mod affinity;
mod expert_output_gated;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::affinity::affinity;
pub use self::expert_output_gated::expert_output_gated;
use crate::{Fingerprint, LayerId, LayerSums, name::named_enum};

named_enum! {
    /// How alike two experts of a layer are.
    SimilarityKind, "similarity", {
        /// [`affinity`]
        Affinity = "affinity",
        /// [`expert_output_gated`]
        ExpertOutputGated = "expert_output_gated",
    }
}

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

/// `similarity.json`: how alike the experts of each layer are on some data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Similarity {
    /// Which measure.
    pub kind: SimilarityKind,
    /// κ of [`SimilarityKind::Affinity`]: the weight of the joint level against the gap.
    pub kappa: f64,
    /// The model's fingerprint.
    pub fingerprint: Fingerprint,
    /// The hash of the token ids it was measured on, as in the scores.
    pub input_sha256: String,
    /// Per layer, `n_experts` rows of `n_experts` values, symmetric.
    pub layers: BTreeMap<LayerId, Vec<Vec<f64>>>,
}

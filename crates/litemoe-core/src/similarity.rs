use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Fingerprint, LayerId, name::named_enum};

named_enum! {
    /// How alike two experts of a layer are.
    SimilarityKind, "similarity", {
        /// Mean over tokens of (1−κ)(1−|pᵢ−pⱼ|) + κ(pᵢ+pⱼ)/2 (LiteMoE §3.3).
        Affinity = "affinity",
        /// Cosine of the mean gated outputs, Σ g·f (REAM, arXiv 2604.04356; HC-SMoE).
        ExpertOutputGated = "expert_output_gated",
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
    /// SHA-256 of the token ids it was measured on, as in the scores.
    pub input_sha256: String,
    /// Per layer, `n_experts` rows of `n_experts` values, symmetric.
    pub layers: BTreeMap<LayerId, Vec<Vec<f64>>>,
}

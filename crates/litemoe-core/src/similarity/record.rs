use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kind::SimilarityKind;
use crate::{Fingerprint, LayerId};

/// `similarity.json`: pairwise similarities of each layer's experts on calibration rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Similarity {
    /// Similarity measure.
    pub kind: SimilarityKind,
    /// κ of [`SimilarityKind::Affinity`]: weight of the joint level against the gap.
    pub kappa: f64,
    /// Fingerprint of the model.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the token ids, as in the scores.
    pub input_sha256: String,
    /// Similarity matrix of each layer, `n_experts` × `n_experts`, symmetric.
    pub layers: BTreeMap<LayerId, Vec<Vec<f64>>>,
}

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kind::SimilarityKind;
use crate::{Fingerprint, LayerId};

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

mod error;
mod layer_sums;
mod merge;
mod privacy;
mod version;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::error::ScoresError;
pub use self::layer_sums::LayerSums;
pub use self::privacy::Privacy;
pub use self::version::SCORES_VERSION;
use crate::name::named_enum;
use crate::{Checksummed, Criterion, Fingerprint, LayerId, Similarity, SimilarityKind, by_layer};

named_enum! {
    /// Origin of the sums.
    ScoreOrigin, "origin", {
        /// Measured by a forward pass over the rows.
        Measured = "measured": "measured by a forward pass over the rows",
        /// Predicted, without that pass.
        Predicted = "predicted": "predicted, without that pass",
    }
}

/// Shard: calibration rows scored in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// SHA-256, in lower-case hex, over the rows in order. Per row: the number of encoder token ids (0 without an
    /// encoder), those ids, the number of token ids, those ids, and one byte per token id: 1 inside the completion
    /// mask, else 0 (all 0 for a row without a mask). Numbers are u64 and ids u32, both little-endian.
    pub sha256: String,
    /// Number of rows.
    pub rows: u64,
    /// Number of tokens, including the encoder's.
    pub tokens: u64,
}

/// `scores.json`: sums over calibration rows for each expert of a model. Scores and similarities are computed from them
/// on demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertScores {
    /// [`SCORES_VERSION`]
    pub version: u32,
    /// Version of the program that wrote the file.
    pub program: String,
    /// Fingerprint of the model.
    pub fingerprint: Fingerprint,
    /// Name of the model; after merging different names, the first in alphabetical order.
    pub model: String,
    /// The model's `model_type`.
    pub family: String,
    /// Origin of the sums.
    pub origin: ScoreOrigin,
    /// The shards, one for each batch of each pass, ascending by hash.
    pub shards: Vec<Shard>,
    /// SHA-256 over all token ids as little-endian u32, in order, each row's encoder before its decoder; after merging,
    /// over the shards' hashes as text, in order.
    pub input_sha256: String,
    /// Maximum rows per batch.
    pub batch: usize,
    /// Maximum tokens per batch, padding included.
    pub batch_tokens: usize,
    /// The seed of [`Criterion::Random`].
    pub seed: u64,
    /// κ of [`SimilarityKind::Affinity`].
    pub kappa: f64,
    /// Differential privacy; `None` for the sums as they were measured. The hashes of private scores are random, and
    /// their numbers of tokens are those of rows in the sums, and 0 in the shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// Sums of each layer.
    #[serde(deserialize_with = "by_layer::deserialize")]
    pub layers: BTreeMap<LayerId, LayerSums>,
}

impl ExpertScores {
    /// Parses `scores.json` and checks its [checksum](Checksummed).
    ///
    /// # Errors
    /// Invalid JSON, another version, contents of another hash, a noise multiplier that is none, or a layer whose sums
    /// differ in their number of experts.
    pub fn from_json(json: &str) -> Result<Self, ScoresError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version: found } = serde_json::from_str(json)?;
        if found != SCORES_VERSION {
            return Err(ScoresError::Version { found });
        }
        let scores: Self = Checksummed::parse(json.as_bytes())?;
        if scores.privacy.is_some_and(|privacy| !privacy.is_valid()) {
            return Err(ScoresError::NoiseMultiplier);
        }
        match scores.layers.iter().find(|(_, sums)| !sums.is_consistent()) {
            Some((&layer, _)) => Err(ScoresError::Experts { layer }),
            None => Ok(scores),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.rows))
    }

    /// Number of tokens.
    pub fn tokens(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.tokens))
    }

    /// Whether the criterion can be computed: private scores have the sums of one criterion alone.
    pub fn has(&self, criterion: Criterion) -> bool {
        self.privacy.is_none_or(|privacy| privacy.releases(criterion))
    }

    /// Value of a criterion for each expert of a layer; `None` for an unknown layer, or a criterion that the scores do not
    /// [have](Self::has).
    pub fn of(&self, layer: LayerId, criterion: Criterion) -> Option<Vec<f64>> {
        if !self.has(criterion) {
            return None;
        }
        Some(criterion.values(layer, self.layers.get(&layer)?, self.seed))
    }

    /// Expert similarities of every layer; `None` if the sums they need were not measured.
    pub fn similarity(&self, kind: SimilarityKind) -> Option<Similarity> {
        let table =
            |(&layer, sums): (&LayerId, &LayerSums)| Some((layer, kind.table(sums, self.kappa)?));
        Some(Similarity {
            kind,
            kappa: self.kappa,
            fingerprint: self.fingerprint.clone(),
            input_sha256: self.input_sha256.clone(),
            layers: self.layers.iter().map(table).collect::<Option<_>>()?,
        })
    }
}

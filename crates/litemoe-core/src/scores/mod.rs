mod layer_sums;
mod merge;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::layer_sums::LayerSums;
pub use self::merge::ScoresError;
use crate::name::named_enum;
use crate::{Criterion, Fingerprint, LayerId, Similarity, SimilarityKind, by_layer};

/// Version of the shape of `scores.json`.
pub const SCORES_VERSION: u32 = 2;

named_enum! {
    /// Where sums come from.
    ScoreOrigin, "origin", {
        /// A pass of the rows through the model.
        Measured = "measured",
        /// A predictor of that pass.
        Predicted = "predicted",
    }
}

/// Rows that were scored in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// SHA-256, in lower-case hex, over the rows in order. Of each row: the number of its encoder's token ids (0 without an
    /// encoder), those ids, the number of its token ids, those ids, and for each of them a byte, 1 where the completion mask
    /// covers it, else 0 (everywhere in a row without a mask). Numbers are u64 and ids u32, both little-endian.
    pub sha256: String,
    /// How many rows there are.
    pub rows: u64,
    /// How many tokens they have, an encoder's counted too.
    pub tokens: u64,
}

/// `scores.json`: what was seen of each expert of a model on some data. Scores and similarities are computed from it when they
/// are asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertScores {
    /// [`SCORES_VERSION`]
    pub version: u32,
    /// Version of the program that wrote the file.
    pub program: String,
    /// The model's fingerprint.
    pub fingerprint: Fingerprint,
    /// The model's name; of several, the first in alphabetical order.
    pub model: String,
    /// Its `model_type`.
    pub family: String,
    /// Where the sums come from.
    pub origin: ScoreOrigin,
    /// The rows seen, ascending by their hashes.
    pub shards: Vec<Shard>,
    /// SHA-256 over all token ids as little-endian u32, in order, an encoder's before its decoder's; of several shards,
    /// over their hashes as text, in order.
    pub input_sha256: String,
    /// Most rows of a batch.
    pub batch: usize,
    /// Most tokens of a batch, padding counted.
    pub batch_tokens: usize,
    /// The seed of [`Criterion::Random`].
    pub seed: u64,
    /// κ of [`SimilarityKind::Affinity`].
    pub kappa: f64,
    /// Per layer.
    #[serde(deserialize_with = "by_layer::deserialize")]
    pub layers: BTreeMap<LayerId, LayerSums>,
}

impl ExpertScores {
    /// Reads `scores.json`.
    ///
    /// # Errors
    /// Text that is not what it should be, another version, a layer whose sums are not all of the same experts.
    pub fn from_json(json: &str) -> Result<Self, ScoresError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version: found } = serde_json::from_str(json)?;
        if found != SCORES_VERSION {
            return Err(ScoresError::Version { found });
        }
        let scores: Self = serde_json::from_str(json)?;
        match scores.layers.iter().find(|(_, sums)| !sums.is_consistent()) {
            Some((&layer, _)) => Err(ScoresError::Experts { layer }),
            None => Ok(scores),
        }
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.rows))
    }

    /// Tokens seen.
    pub fn tokens(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.tokens))
    }

    /// A criterion's value of each of a layer's experts; `None` for a layer that is not there.
    pub fn of(&self, layer: LayerId, criterion: Criterion) -> Option<Vec<f64>> {
        Some(criterion.values(layer, self.layers.get(&layer)?, self.seed))
    }

    /// How alike the experts of each layer are; `None` where what that is computed from was not measured.
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

use thiserror::Error;

use super::{ExpertScores, LayerSums, SCORES_VERSION};
use crate::{Fingerprint, LayerId, sha256_hex};

impl ExpertScores {
    /// Adds the scores of other rows. The result does not depend on the order and equals that of one pass over all
    /// rows, bit for bit if the batches are the same.
    ///
    /// # Errors
    /// Scores that contain the same rows, belong to different models, or were measured with different options; sums
    /// that are no longer finite.
    pub fn merged(mut self, other: &Self) -> Result<Self, ScoresError> {
        self.check_adds_up_with(other)?;
        for ((&layer, sums), more) in self.layers.iter_mut().zip(other.layers.values()) {
            sums.merge(more);
            if !sums.is_finite() {
                return Err(ScoresError::NotFinite { layer });
            }
        }
        self.model = self.model.min(other.model.clone());
        self.shards.extend_from_slice(&other.shards);
        self.shards.sort_by(|x, y| x.sha256.cmp(&y.sha256));
        let hashes: String = self.shards.iter().map(|shard| shard.sha256.as_str()).collect();
        self.input_sha256 = sha256_hex(hashes.as_bytes());
        Ok(self)
    }

    fn check_adds_up_with(&self, other: &Self) -> Result<(), ScoresError> {
        if self.fingerprint != other.fingerprint {
            let (one, other) = (self.fingerprint.clone(), other.fingerprint.clone());
            return Err(ScoresError::OtherModel { one, other });
        }
        let options = [
            ("origin", self.origin == other.origin),
            ("batch", self.batch == other.batch),
            ("batch_tokens", self.batch_tokens == other.batch_tokens),
            ("seed", self.seed == other.seed),
            ("kappa", self.kappa == other.kappa),
        ];
        if let Some(&(option, _)) = options.iter().find(|(_, same)| !same) {
            return Err(ScoresError::OtherOption { option });
        }
        let same = |(x, y): (&LayerSums, &LayerSums)| x.adds_up_with(y);
        if !self.layers.keys().eq(other.layers.keys())
            || !self.layers.values().zip(other.layers.values()).all(same)
        {
            return Err(ScoresError::OtherLayers);
        }
        let ours = |sha256: &str| self.shards.iter().any(|shard| shard.sha256 == sha256);
        match other.shards.iter().find(|shard| ours(&shard.sha256)) {
            Some(shard) => Err(ScoresError::SameRows { sha256: shard.sha256.clone() }),
            None => Ok(()),
        }
    }
}

/// Error of reading or adding scores.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ScoresError {
    #[error(
        "the scores have version {found}, but this program reads version {SCORES_VERSION}: score the model again"
    )]
    Version { found: u32 },
    #[error("these are no scores")]
    Json(#[from] serde_json::Error),
    #[error("the sums of layer {layer} are not all of the same experts")]
    Experts { layer: LayerId },
    #[error("scores of the model {one} and of the model {other} do not add up")]
    OtherModel { one: Fingerprint, other: Fingerprint },
    #[error("scores that differ in `{option}` do not add up")]
    OtherOption { option: &'static str },
    #[error("scores of different layers or experts, or with different similarities, do not add up")]
    OtherLayers,
    #[error("both scores hold the rows with the SHA-256 {sha256}, which would count twice")]
    SameRows { sha256: String },
    #[error("the sums of layer {layer} are not finite numbers")]
    NotFinite { layer: LayerId },
}

use super::error::ScoresError;
use super::{ExpertScores, LayerSums};
use crate::sha256_hex;

impl ExpertScores {
    /// Adds the scores of other rows. Of private scores the noise adds up too; a row that is in both loses the privacy of
    /// both. The result does not depend on the order and equals that of one pass over all
    /// rows, bit for bit if the batches are the same.
    ///
    /// # Errors
    /// Scores that contain the same rows (private ones do not tell), belong to different models, or were measured with different options; sums
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
            ("privacy", self.privacy == other.privacy),
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

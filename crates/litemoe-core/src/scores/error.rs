use thiserror::Error;

use super::version::SCORES_VERSION;
use crate::{ChecksumError, Fingerprint, LayerId};

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
    #[error(transparent)]
    Changed(ChecksumError),
    #[error("the sums of layer {layer} are not all of the same experts")]
    Experts { layer: LayerId },
    #[error("the noise multiplier of the scores is not a number above 0 and at most 1e6")]
    NoiseMultiplier,
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

impl From<ChecksumError> for ScoresError {
    fn from(error: ChecksumError) -> Self {
        match error {
            ChecksumError::Json(error) => Self::Json(error),
            changed => Self::Changed(changed),
        }
    }
}

use litemoe_core::{Criterion, ExpertId, LayerId};
use thiserror::Error;

/// Errors of expert scoring. Rows count from 0.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ScoreError {
    #[error("there are no rows to score the experts on")]
    NoRows,
    #[error("row {row} holds no tokens")]
    EmptyRow { row: usize },
    #[error("row {row} has {tokens} tokens, but the model takes at most {max_tokens}")]
    LongRow { row: usize, tokens: usize, max_tokens: usize },
    #[error(
        "row {row} {}",
        if *needed { "has no tokens for the model's encoder" } else { "has tokens for an encoder, but the model has none" }
    )]
    Encoder { row: usize, needed: bool },
    #[error("row {row} holds token {token}, but the vocabulary ends before {vocab}")]
    UnknownToken { row: usize, token: u32, vocab: usize },
    #[error("a batch of 0 rows cannot be run")]
    EmptyBatch,
    #[error("kappa is {kappa}, but must lie in [0, 1]")]
    Kappa { kappa: f64 },
    #[error("the noise multiplier is {given}, but must be above 0 and at most 1e6")]
    NoiseMultiplier { given: f64 },
    #[error("the score {criterion} is computed from no sums that could be released")]
    NothingReleased { criterion: Criterion },
    #[error("similarities cannot be measured with noise")]
    PrivateSimilarity,
    #[error("the model has no mixture-of-experts layers")]
    NoExperts,
    #[error("{expert}: its {what} is not a finite number")]
    NotFinite { expert: ExpertId, what: &'static str },
    #[error("the model's blocks told the observer nothing of the experts of layer {layer}")]
    Unreported { layer: LayerId },
    #[error("measurements of different models, or of different similarities, do not add up")]
    OtherMeasurement,
    #[error("a shard is named i/n with i from 1 to n, but this is `{given}`")]
    NoSuchShard { given: String },
    #[error("the rows make {batches} batches, which are not enough for {shards} shards")]
    FewBatches { shards: usize, batches: usize },
}

/// Below this many sequences a warning is given.
const ENOUGH_ROWS: u64 = 32;

/// Warnings about measured scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum Warning {
    #[error("scores measured on {rows} sequences are noisy; use 32 or more")]
    FewRows { rows: u64 },
}

impl Warning {
    /// The warning for scores measured on `rows` sequences, if any.
    pub fn of_rows(rows: u64) -> Option<Self> {
        (rows < ENOUGH_ROWS).then_some(Self::FewRows { rows })
    }
}

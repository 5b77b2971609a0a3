use litemoe_core::{ExpertPart, WeightDtype};
use thiserror::Error;

/// A weight has a value that its packed format cannot hold: too large, or not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("row {row} of the weight has a value that {dtype} cannot hold")]
pub struct RangeError {
    /// Packed format.
    pub dtype: WeightDtype,
    /// Row in the checkpoint layout.
    pub row: usize,
}

/// [`RangeError`] of a matrix of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{part:?} projection: {source}")]
pub struct ExpertRangeError {
    /// The matrix.
    pub part: ExpertPart,
    /// Its error.
    pub source: RangeError,
}

use thiserror::Error;

/// Error: an invalid [`Sampling`](crate::Sampling) configuration.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A value outside its range.
    #[error("`{parameter}` is {value}, not {expected}")]
    OutOfRange {
        /// Field of the configuration.
        parameter: &'static str,
        /// Its value.
        value: f32,
        /// The valid range, in words.
        expected: &'static str,
    },
    /// A logit bias of a token outside the vocabulary.
    #[error("`logit_bias` names token {token}, but the model has {vocab}")]
    UnknownToken {
        /// Token id.
        token: u32,
        /// Vocabulary size.
        vocab: usize,
    },
}

impl SamplingError {
    /// The invalid field.
    pub fn parameter(&self) -> &'static str {
        match self {
            Self::OutOfRange { parameter, .. } => parameter,
            Self::UnknownToken { .. } => "logit_bias",
        }
    }
}

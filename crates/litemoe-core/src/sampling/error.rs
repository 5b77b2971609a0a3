use thiserror::Error;

/// A [`Sampling`](crate::Sampling) rule that cannot be followed.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A number is not where its definition needs it.
    #[error("`{parameter}` is {value}, not {expected}")]
    OutOfRange {
        /// The field of the rule.
        parameter: &'static str,
        /// What it is.
        value: f32,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// A bias of a token that the model does not have.
    #[error("`logit_bias` names token {token}, but the model has {vocab}")]
    UnknownToken {
        /// The token's id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
}

impl SamplingError {
    /// The field of the rule that is to blame.
    pub fn parameter(&self) -> &'static str {
        match self {
            Self::OutOfRange { parameter, .. } => parameter,
            Self::UnknownToken { .. } => "logit_bias",
        }
    }
}

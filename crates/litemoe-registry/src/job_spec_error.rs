use thiserror::Error;

/// A value of a specification that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} is {given}, but must be {expected}")]
#[allow(missing_docs)] // the message says what the fields are
pub struct JobSpecError {
    pub field: &'static str,
    pub given: String,
    pub expected: &'static str,
}

use thiserror::Error;

use super::shape::RowShape;

const SHAPES: &str = "a row has `prompt` and `completion`, or `messages`, or `instruction` and `output`, or \
                      `conversations`, or `text`";

/// Why a row is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum RowError {
    #[error(
        "not a JSON object but {found}; a row is an object with keys, such as {{\"prompt\": …, \"completion\": …}}"
    )]
    NotAnObject { found: &'static str },
    #[error("{reason}")]
    Syntax { reason: String },
    #[error("it is not UTF-8: byte {byte:#04x} at offset {offset}; save the file as UTF-8")]
    NotUtf8 { byte: u8, offset: usize },
    #[error("missing field `{key}`")]
    Missing { key: &'static str },
    #[error("`{key}`: {reason}")]
    Malformed { key: String, reason: String },
    #[error("`{key}` is {found}, expected {expected}")]
    Type { key: String, expected: &'static str, found: &'static str },
    #[error("a row of another shape: {found}, but the rows before it are {expected}")]
    OtherShape { expected: RowShape, found: RowShape },
    #[error("its keys fit several shapes: {}; leave the keys of one", shapes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Ambiguous { shapes: Vec<RowShape> },
    #[error(
        "not a known row: {}; {}",
        keys_in_words(keys),
        advice.as_deref().unwrap_or(SHAPES)
    )]
    UnknownShape { keys: Vec<String>, advice: Option<String> },
    #[error("empty completion: `{key}` has no text, so there is nothing to learn")]
    EmptyCompletion { key: String },
    #[error("`{key}`: unknown role `{role}`; known are {}", known.join(", "))]
    UnknownRole { key: String, role: String, known: &'static [&'static str] },
    #[error("`{key}` has no assistant message in the loss, so there is nothing to learn")]
    NoAssistant { key: &'static str },
    #[error("`{key}` begins with the assistant's message, which nothing precedes")]
    NoPrompt { key: &'static str },
    #[error("`{key}` has {what}: {advice}")]
    Unsupported { key: String, what: String, advice: &'static str },
}

impl RowError {
    /// Key at fault, as a path in the row, if it is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing { key } | Self::NoAssistant { key } | Self::NoPrompt { key } => Some(key),
            Self::Malformed { key, .. }
            | Self::Type { key, .. }
            | Self::EmptyCompletion { key }
            | Self::UnknownRole { key, .. }
            | Self::Unsupported { key, .. } => Some(key),
            _ => None,
        }
    }
}

fn keys_in_words(keys: &[String]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match keys.is_empty() {
        true => "it has no keys".to_owned(),
        false => format!("its keys are {}", keys.join(", ")),
    }
}

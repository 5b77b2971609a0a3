use std::fmt;

use thiserror::Error;

/// Maximum bytes of the library's messages that are passed on.
const MAX_REASON: usize = 300;

/// Errors of making a [`Grammar`](crate::Grammar).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A keyword of a JSON schema that generation cannot follow.
    #[error("the JSON schema has `{keyword}` at `{at}`, which is not supported{advice}")]
    UnsupportedKeyword {
        /// The keyword.
        keyword: String,
        /// JSON pointer of the schema that has it.
        at: String,
        /// What is supported, if something similar is; begins with `: `.
        advice: &'static str,
    },
    /// A malformed JSON schema.
    #[error("the JSON schema's `{keyword}` at `{at}` is not {expected}")]
    Schema {
        /// The keyword; empty for the schema itself.
        keyword: String,
        /// JSON pointer of the schema that has it.
        at: String,
        /// What it must be.
        expected: String,
    },
    /// A grammar above a limit.
    #[error("the grammar has more than {max} {what}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The maximum.
        max: usize,
    },
    /// The library refuses the grammar: nothing satisfies it, it has an unsupported regular expression or combination
    /// of schemas, or it is too complex.
    #[error("no grammar can be made: {reason}")]
    Refused {
        /// The library's reason.
        reason: String,
    },
    /// The format of tool calls is not known.
    #[error("how the model calls tools cannot be derived from its chat template")]
    NoCallFormat,
    /// A tool whose schema has no grammar.
    #[error("the parameters of tool `{name}`: {error}")]
    Tool {
        /// Name of the tool.
        name: String,
        /// What is wrong with its schema.
        error: Box<GrammarError>,
    },
    /// The tokenizer has no end-of-sequence token, so nothing would end a text.
    #[error("the model has no end-of-sequence token, so nothing ends a constrained text")]
    NoEndToken,
    /// The bytes of the vocabulary's tokens are not known.
    #[error("the vocabulary cannot be used for grammars: {reason}")]
    Vocabulary {
        /// What is wrong.
        reason: String,
    },
}

/// Beginning of the library's message, on one line.
pub(super) fn one_line(error: &dyn fmt::Display) -> String {
    let words = error.to_string();
    let words = words.split_whitespace().filter(|word| *word != "<non-verbose/>");
    let mut line = words.collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(MAX_REASON));
    line
}

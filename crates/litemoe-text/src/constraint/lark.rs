//! Text of the library's grammars, whose syntax is Lark's.

use serde_json::Value;

/// A part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// This text.
    Text(String),
    /// A special token.
    Token(u32),
}

/// A sequence of parts, not empty.
pub(crate) fn sequence(parts: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => literal(text),
        Part::Token(id) => format!("<[{id}]>"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// A string: JSON's syntax, in which the library also expects DEL to be escaped.
pub(crate) fn literal(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

//! Tool calls in answers: the format of a chat template, and calls parsed back from text.

mod format;
mod json_scan;
mod parser;
mod probe;
mod tokenizer_calls;

pub(crate) use format::{ARGUMENTS, Body, JsonBody, NAME, NameBody};
pub use format::{CallFormat, ToolCall};
pub use parser::{CallParser, Parsed};

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::TextError;

/// A training or evaluation example: the user's prompt and the expected completion.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    /// The user's message.
    pub prompt: String,
    /// The assistant's message.
    pub completion: String,
    /// Class label to group rows by; never compared with text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Other correct completions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
}

impl Row {
    /// A row without label or references.
    pub fn new(prompt: impl Into<String>, completion: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), completion: completion.into(), ..Self::default() }
    }
}

/// Reads a JSON Lines file of rows: row `i`, from 0, is line `i + 1`. Other keys are ignored.
///
/// # Errors
/// A line that is empty, not an object, or lacks a string `prompt` or `completion`, naming file and line; a file
/// without lines.
pub fn read_rows(path: impl AsRef<Path>) -> Result<Vec<Row>, TextError> {
    let file = path.as_ref();
    let bytes = fs::read(file).map_err(|reason| TextError::Read { file: file.into(), reason })?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if text.is_empty() {
        return Err(TextError::NoRows { file: file.into() });
    }
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    lines.map(|(index, line)| read_row(file, index + 1, line)).collect()
}

fn read_row(file: &Path, line: usize, json: &[u8]) -> Result<Row, TextError> {
    let error = |reason| TextError::Row { file: file.into(), line, reason };
    if json.trim_ascii().is_empty() {
        return Err(error("the line is empty".to_owned()));
    }
    // Serde also reads a struct from an array, `["prompt", "completion"]`.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(error("the line is not a JSON object".to_owned()));
    }
    serde_json::from_slice(json).map_err(|reason| error(without_line(&reason)))
}

/// The message of a JSON error, without its line, which is always 1.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

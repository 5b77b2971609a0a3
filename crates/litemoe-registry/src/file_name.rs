use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;
use thiserror::Error;

/// Maximum bytes of a file's name, as most file systems have it.
const MAX_BYTES: usize = 255;

/// A text that is no name of a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not the name of a file: 1 to {MAX_BYTES} bytes without slashes and control characters"
)]
#[allow(missing_docs)] // the message says what the field is
pub struct FileNameError {
    pub text: String,
}

/// Name of a file in a folder: no path, so that nothing is written outside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, FileNameError> {
        let is_path = [".", ".."].contains(&text) || text.contains(['/', '\\']);
        let is_name =
            (1..=MAX_BYTES).contains(&text.len()) && !is_path && !text.contains(char::is_control);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(FileNameError { text: text.to_owned() })
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ToSql for FileName {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for FileName {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other::<FileNameError>)
    }
}

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum characters of a name.
const MAX_LENGTH: usize = 64;

/// A text that is no name of an app or adapter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is not the name of an {of}: 1 to {MAX_LENGTH} of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit"
)]
#[allow(missing_docs)] // the message says what the fields are
pub struct NameError {
    pub of: &'static str,
    pub text: String,
}

/// Name of an app: 1 to 64 of `a`–`z`, `0`–`9`, `-`, `_` and `.`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

/// Name of an adapter, of the same form as that of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterName(String);

/// The text, if it is a name.
fn checked(of: &'static str, text: &str) -> Result<String, NameError> {
    let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = text.len() <= MAX_LENGTH
        && text.bytes().next().is_some_and(is_first)
        && text.bytes().all(is_inner);
    if is_name { Ok(text.to_owned()) } else { Err(NameError { of, text: text.to_owned() }) }
}

macro_rules! name {
    ($name:ident, $of:literal) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($of, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(FromSqlError::other::<NameError>)
            }
        }
    };
}

name!(AppName, "app");
name!(AdapterName, "adapter");

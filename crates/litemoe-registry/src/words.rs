//! Enumerations that are words in the database and in JSON.

use thiserror::Error;

/// A text that is none of an enumeration's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is none of {}", words.join(", "))]
#[allow(missing_docs)] // the message says what the fields are
pub struct WordError {
    pub text: String,
    pub words: &'static [&'static str],
}

/// Implements conversions from and to the words of an enumeration without fields.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The words, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::words::WordError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::words::WordError { text: text.to_owned(), words: Self::WORDS }),
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl ::rusqlite::types::ToSql for $type {
            fn to_sql(&self) -> ::rusqlite::Result<::rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl ::rusqlite::types::FromSql for $type {
            fn column_result(
                value: ::rusqlite::types::ValueRef<'_>,
            ) -> ::rusqlite::types::FromSqlResult<Self> {
                value.as_str()?.parse().map_err(
                    ::rusqlite::types::FromSqlError::other::<$crate::words::WordError>,
                )
            }
        }
    };
}

pub(crate) use words;

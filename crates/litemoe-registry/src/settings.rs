use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::words::words;

/// What an app may use, and how much of it. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Models that it may use.
    pub models: Allowed,
    /// Shared adapters that it may use; its own it may always use, and those of other apps never.
    pub adapters: Allowed,
    /// Requests per minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens of prompts and answers per minute.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Requests at the same time.
    pub concurrency: Option<NonZeroU32>,
    /// Bytes of keys and values that may be kept for it between requests.
    pub cache_bytes: Option<u64>,
    /// Bytes of its files and adapters together.
    pub storage_bytes: Option<u64>,
    /// Token budget: tokens of prompts and answers per day (UTC).
    pub tokens_per_day: Option<NonZeroU64>,
    /// Share of the engine's time relative to other apps of the same priority.
    pub weight: NonZeroU32,
    /// Which requests go first.
    pub priority: Priority,
}

impl Default for Settings {
    /// Everything, without limits, with a weight of 1 and interactive.
    fn default() -> Self {
        Self {
            models: Allowed::All,
            adapters: Allowed::All,
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrency: None,
            cache_bytes: None,
            storage_bytes: None,
            tokens_per_day: None,
            weight: NonZeroU32::MIN,
            priority: Priority::Interactive,
        }
    }
}

/// Priority of an app's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody waits for the answers.
    #[default]
    Interactive,
    /// Runs when no interactive request waits.
    Background,
}

words!(Priority { Interactive = "interactive", Background = "background" });

/// Names that are allowed: all, `*`, or those of a list. In JSON `"*"` or an array; as text, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every name.
    All,
    /// These names.
    Only(BTreeSet<String>),
}

impl Allowed {
    /// Whether a name is allowed.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

impl FromStr for Allowed {
    type Err = Infallible;

    /// Blanks around names are ignored; an empty text allows nothing.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self::Only(names.map(str::to_owned).collect()))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Only(names) => {
                f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("*"),
            Self::Only(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected `*` or an array of names")]
        enum Written {
            Word(String),
            Names(BTreeSet<String>),
        }
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "*" => Ok(Self::All),
            Written::Word(word) => Err(serde::de::Error::custom(format!("`{word}` is not `*`"))),
            Written::Names(names) => Ok(Self::Only(names)),
        }
    }
}

impl ToSql for Allowed {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let json = serde_json::to_string(self);
        Ok(json.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?.into())
    }
}

impl FromSql for Allowed {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map_err(FromSqlError::other)
    }
}

/// Columns of settings in the table of apps, in the order of [`Settings::of`] and [`Settings::values`].
pub(crate) const COLUMNS: &str = "models, adapters, requests_per_minute, tokens_per_minute, concurrency, cache_bytes, \
                                  tokens_per_day, weight, priority, storage_bytes";

impl Settings {
    /// Reads the columns from the given one on.
    pub(crate) fn of(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            models: row.get(first)?,
            adapters: row.get(first + 1)?,
            requests_per_minute: row.get(first + 2)?,
            tokens_per_minute: row.get(first + 3)?,
            concurrency: row.get(first + 4)?,
            cache_bytes: row.get(first + 5)?,
            tokens_per_day: row.get(first + 6)?,
            weight: row.get(first + 7)?,
            priority: row.get(first + 8)?,
            storage_bytes: row.get(first + 9)?,
        })
    }

    /// Values of the columns.
    pub(crate) fn values(&self) -> [&dyn ToSql; 10] {
        [
            &self.models,
            &self.adapters,
            &self.requests_per_minute,
            &self.tokens_per_minute,
            &self.concurrency,
            &self.cache_bytes,
            &self.tokens_per_day,
            &self.weight,
            &self.priority,
            &self.storage_bytes,
        ]
    }
}

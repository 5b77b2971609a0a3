use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::RowError;
use super::value::{self, without_line};

/// Keys and values of a row. Values are parsed on use, so those that nothing uses may hold anything.
pub(super) struct Object<'t> {
    /// Names of columns are the table's: a copy for each record would take more than the file.
    fields: BTreeMap<Cow<'t, str>, Field<'t>>,
}

/// Value of a key.
pub(super) enum Field<'t> {
    Json(&'t RawValue),
    /// Cell of a table.
    Cell(String),
}

impl<'t> Object<'t> {
    /// Parses a JSON object.
    pub(super) fn parse(json: &'t str) -> Result<Self, RowError> {
        let start = json.trim_ascii_start();
        if !start.starts_with('{') {
            return Err(RowError::NotAnObject { found: kind_of_text(start) });
        }
        serde_json::from_str(json).map_err(|error| {
            let mut reason = without_line(&error);
            if start.starts_with("{'") {
                reason += "; JSON has double quotes, and this looks like Python";
            }
            RowError::Syntax { reason }
        })
    }

    /// A record of a table.
    pub(super) fn record(cells: impl IntoIterator<Item = (&'t str, String)>) -> Self {
        let fields = cells.into_iter().map(|(name, cell)| (name.into(), Field::Cell(cell)));
        Self { fields: fields.collect() }
    }

    pub(super) fn keys(&self) -> Vec<&str> {
        self.fields.keys().map(|key| &**key).collect()
    }

    /// Keys whose value is not null. Cells are not, because all rows of a table have the same.
    pub(super) fn set_keys(&self) -> Vec<&str> {
        let is_null = |field: &Field<'_>| matches!(field, Field::Json(raw) if raw.get() == "null");
        let set = self.fields.iter().filter(|(_, field)| !is_null(field));
        set.map(|(key, _)| &**key).collect()
    }

    /// The JSON value of a key; `None` if it is absent, null or an empty cell. A cell is a string.
    pub(super) fn value(&self, key: &str) -> Result<Option<Value>, RowError> {
        let value = match self.fields.get(key) {
            None => return Ok(None),
            Some(Field::Cell(cell)) if cell.is_empty() => Value::Null,
            Some(Field::Cell(cell)) => Value::String(cell.clone()),
            Some(Field::Json(raw)) => parsed(key, raw.get())?,
        };
        Ok(Some(value).filter(|value| !value.is_null()))
    }

    /// Whether a key is a table's.
    pub(super) fn is_cell(&self, key: &str) -> bool {
        matches!(self.fields.get(key), Some(Field::Cell(_)))
    }

    /// As [`Self::value`], with a string parsed as JSON, which is how tables and some datasets hold lists.
    pub(super) fn nested(&self, key: &str) -> Result<Option<Value>, RowError> {
        match self.value(key)? {
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => parsed(key, &text).map(Some),
            value => Ok(value),
        }
    }
}

fn parsed(key: &str, json: &str) -> Result<Value, RowError> {
    value::parsed(json).map_err(|reason| RowError::Malformed { key: key.to_owned(), reason })
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((key, raw)) = map.next_entry::<String, &'de RawValue>()? {
            match fields.entry(Cow::Owned(key)) {
                Entry::Vacant(entry) => entry.insert(Field::Json(raw)),
                Entry::Occupied(entry) => {
                    let message = format!("duplicate field `{}`", entry.key());
                    return Err(A::Error::custom(message));
                }
            };
        }
        Ok(Object { fields })
    }
}

/// Kind of a JSON value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Error for a value of another type than expected.
pub(crate) fn wrong_type(
    key: impl Into<String>,
    expected: &'static str,
    found: &Value,
) -> RowError {
    RowError::Type { key: key.into(), expected, found: kind(found) }
}

fn kind_of_text(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b'0'..=b'9' | b'-') => "a number",
        _ => "text",
    }
}

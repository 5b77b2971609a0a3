use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::values;

/// Fields of a request's JSON object. They are removed as they are read, so that the remaining ones are unknown. `null`
/// equals a missing field.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// Path of the object in the request, with a trailing dot; empty for the request itself.
    path: String,
}

impl Fields {
    /// Parses a body of at most `max_values` JSON values.
    pub(crate) fn parse(body: &[u8], max_values: usize) -> Result<Self, ApiError> {
        let invalid =
            |error| ApiError::bad_request("invalid_json", format!("the body is not JSON: {error}"));
        if values::count(body, max_values).map_err(invalid)? > max_values {
            let message = format!("the body has more than {max_values} JSON values");
            return Err(ApiError::bad_request("invalid_value", message));
        }
        let parsed: Result<Value, _> = serde_json::from_slice(body);
        match parsed.map_err(invalid)? {
            Value::Object(fields) => Ok(Self { fields, path: String::new() }),
            _ => Err(ApiError::bad_request("invalid_type", "the body is not an object")),
        }
    }

    pub(crate) fn of(value: Value, path: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(fields) => Ok(Self { fields, path: format!("{path}.") }),
            _ => Err(ApiError::bad_request("invalid_type", format!("`{path}` is not an object"))
                .of(path)),
        }
    }

    /// The path of a field in the request.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Whether there is a field that was not read, and is not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        #[cfg(test)]
        asked::add(&self.path(name));
        let Some(value) = self.fields.remove(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let wrong = |_| self.invalid(name, "invalid_type", expected);
        serde_json::from_value(value).map(Some).map_err(wrong)
    }

    pub(crate) fn required<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<T, ApiError> {
        let path = self.path(name);
        self.optional(name, expected)?.ok_or_else(|| {
            ApiError::bad_request("missing_required_parameter", format!("`{path}` is missing"))
                .of(path)
        })
    }

    /// Reads a field that may only have values without effect.
    pub(crate) fn neutral(
        &mut self,
        name: &str,
        is_neutral: impl Fn(&Value) -> bool,
    ) -> Result<(), ApiError> {
        #[cfg(test)]
        asked::add(&self.path(name));
        match self.fields.remove(name) {
            Some(value) if !value.is_null() && !is_neutral(&value) => {
                Err(self.unsupported(name, &value))
            }
            _ => Ok(()),
        }
    }

    /// An error of a value that cannot be honoured.
    pub(crate) fn unsupported(&self, name: &str, value: &Value) -> ApiError {
        let path = self.path(name);
        let message = format!("`{path}` with the value {value} is not supported");
        ApiError::bad_request("unsupported_parameter", message).of(path)
    }

    /// An error of two fields that exclude each other.
    pub(crate) fn conflict(&self, name: &str, other: &str) -> ApiError {
        let path = self.path(name);
        let message = format!("`{path}` cannot be combined with `{other}`");
        ApiError::bad_request("unsupported_parameter", message).of(path)
    }

    /// An error of a field's value.
    pub(crate) fn invalid(&self, name: &str, code: &'static str, expected: &str) -> ApiError {
        let path = self.path(name);
        ApiError::bad_request(code, format!("`{path}` is not {expected}")).of(path)
    }

    /// Refuses fields that were not read.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => {
                let path = self.path(name);
                let message = format!("`{path}` is not a known parameter");
                Err(ApiError::bad_request("unknown_parameter", message).of(path))
            }
        }
    }
}

/// The fields that were read in this thread.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static PATHS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Notes a field by its path, without the numbers of list items.
    pub(super) fn add(path: &str) {
        let path = path.replace(|letter: char| letter.is_ascii_digit(), "");
        PATHS.with_borrow_mut(|paths| paths.insert(path));
    }

    /// The paths since the last call.
    pub(crate) fn take() -> BTreeSet<String> {
        PATHS.take()
    }
}

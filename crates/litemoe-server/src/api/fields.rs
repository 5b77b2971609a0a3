use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::error::ApiError;

/// The fields of a request's object, taken one by one, so that what is left at the end is unknown. `null` is the same
/// as no field.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// Where the object stands in the request, with a dot after it; empty for the request itself.
    path: String,
}

impl Fields {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let parsed: Result<Value, _> = serde_json::from_slice(body);
        let invalid =
            |error| ApiError::bad_request("invalid_json", format!("the body is not JSON: {error}"));
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

    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
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

    /// Takes a field that changes nothing unless it has some value that is not supported.
    pub(crate) fn neutral(
        &mut self,
        name: &str,
        is_neutral: impl Fn(&Value) -> bool,
    ) -> Result<(), ApiError> {
        match self.fields.remove(name) {
            Some(value) if !value.is_null() && !is_neutral(&value) => {
                let path = self.path(name);
                let message = format!("`{path}` with the value {value} is not supported");
                Err(ApiError::bad_request("unsupported_parameter", message).of(path))
            }
            _ => Ok(()),
        }
    }

    /// An error of a field's value.
    pub(crate) fn invalid(&self, name: &str, code: &'static str, expected: &str) -> ApiError {
        let path = self.path(name);
        ApiError::bad_request(code, format!("`{path}` is not {expected}")).of(path)
    }

    /// Refuses what was not taken.
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

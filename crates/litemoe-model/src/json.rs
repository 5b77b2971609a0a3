//! JSON from untrusted files, in memory bounded by a few times the file: a tree of values would take 50 times the file.

use std::fmt;
use std::path::Path;

use litemoe_files::{JsonLimits, read_json_limited};
use serde::de::{DeserializeOwned, Deserializer as _, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::ModelError;

/// Reads a JSON file within limits.
pub(crate) fn read_json<T: DeserializeOwned>(
    path: &Path,
    limits: JsonLimits,
) -> Result<T, ModelError> {
    let bytes = read_json_limited(path, limits).map_err(ModelError::io(path))?;
    serde_json::from_slice(&bytes).map_err(ModelError::json(path))
}

/// Visits the members of a JSON object in order, with their values as raw JSON.
///
/// # Errors
/// `malformed` if the JSON is not an object, or the first error of `visit`.
pub(crate) fn for_each_member<'a>(
    json: &'a [u8],
    malformed: impl FnOnce(serde_json::Error) -> ModelError,
    visit: impl FnMut(String, &'a RawValue) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let mut refused = None;
    let mut object = serde_json::Deserializer::from_slice(json);
    let read = object.deserialize_map(Members { visit, refused: &mut refused });
    match (read.and_then(|()| object.end()), refused) {
        (_, Some(refused)) => Err(refused),
        (Err(error), None) => Err(malformed(error)),
        (Ok(()), None) => Ok(()),
    }
}

struct Members<'r, F> {
    visit: F,
    /// Error of `visit`; serde would reduce it to a string.
    refused: &'r mut Option<ModelError>,
}

impl<'de, F> Visitor<'de> for Members<'_, F>
where
    F: FnMut(String, &'de RawValue) -> Result<(), ModelError>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some((key, value)) = map.next_entry()? {
            if let Err(error) = (self.visit)(key, value) {
                *self.refused = Some(error);
                return Err(M::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use litemoe_files::{JsonLimits, read_json_limited};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::ModelError;
use crate::json::for_each_member;
use crate::leftovers;

/// Limits of a configuration, far above any model.
pub(crate) const CONFIG_LIMITS: JsonLimits =
    JsonLimits { max_bytes: 16 << 20, max_values: 2_000_000 };

/// Maximum parts of a value, far above any model. More are a broken file, and would take many times its size in memory.
const MAX_PARTS: usize = 2048;

/// Maximum keys of an object, far above any model.
const MAX_KEYS: usize = 4096;

/// Maximum of a size, far above any model. Two such sizes multiply without overflow.
const MAX_SIZE: usize = u32::MAX as usize;

/// Bytes of a wrong value that an error shows.
const MAX_SHOWN: usize = 200;

/// JSON object from an untrusted file, read key by key. [`Self::finish`] refuses keys that were never read, or returns
/// them as leftovers.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    /// Values as raw JSON: an unread one takes no more memory than in the file.
    fields: BTreeMap<String, Box<RawValue>>,
    /// Prefix of keys in messages: `rope_scaling.` inside that object.
    prefix: String,
    read: BTreeSet<String>,
    /// Leftover keys of closed objects in it.
    leftovers: Vec<String>,
}

/// Whether a number is normal in f32, the compute precision.
fn is_usual(number: f64) -> bool {
    (number as f32).is_normal()
}

impl ConfigFile {
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let json = read_json_limited(path, CONFIG_LIMITS).map_err(ModelError::io(path))?;
        Self::of(path, String::new(), &json, ModelError::json(path))
    }

    fn of(
        path: &Path,
        prefix: String,
        json: &[u8],
        malformed: impl FnOnce(serde_json::Error) -> ModelError,
    ) -> Result<Self, ModelError> {
        let mut file = Self {
            path: path.to_owned(),
            fields: BTreeMap::new(),
            prefix,
            read: BTreeSet::new(),
            leftovers: Vec::new(),
        };
        for_each_member(json, malformed, |key, value| file.insert(key, value))?;
        Ok(file)
    }

    fn insert(&mut self, key: String, value: &RawValue) -> Result<(), ModelError> {
        if self.fields.contains_key(&key) {
            return Err(self.wrong(&key, "there once"));
        }
        if self.fields.len() == MAX_KEYS {
            return Err(self.wrong(&key, &format!("one of at most {MAX_KEYS} keys")));
        }
        self.fields.insert(key, value.to_owned());
        Ok(())
    }

    /// Whether a key is present, null or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Whether a key is present and null.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.json(key) == Some("null")
    }

    /// Value of a key; `None` when it is absent or null.
    ///
    /// # Errors
    /// When the value is not what `expected` says, or has more than [`MAX_PARTS`] parts.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &str,
        expected: &str,
    ) -> Result<Option<T>, ModelError> {
        self.read.insert(key.to_owned());
        let Some(json) = self.json(key).filter(|&json| json != "null") else { return Ok(None) };
        // Every part follows a comma or a bracket.
        if json.bytes().filter(|byte| b",[{".contains(byte)).count() > MAX_PARTS {
            return Err(self.wrong(key, &format!("at most {MAX_PARTS} values")));
        }
        serde_json::from_str(json).map(Some).map_err(|_| self.wrong(key, expected))
    }

    /// As [`Self::optional`], but the key must be present.
    pub(crate) fn required<T: DeserializeOwned>(
        &mut self,
        key: &str,
        expected: &str,
    ) -> Result<T, ModelError> {
        let value = self.optional(key, expected)?;
        value.ok_or_else(|| self.missing(key))
    }

    /// A size of at least 1.
    pub(crate) fn size(&mut self, key: &str) -> Result<usize, ModelError> {
        let size = self.optional_size(key)?;
        size.ok_or_else(|| self.missing(key))
    }

    /// A count of things with their own tensors, from 1 to `max`.
    pub(crate) fn count(&mut self, key: &str, max: usize) -> Result<usize, ModelError> {
        let count = self.size(key)?;
        if count > max { Err(self.wrong(key, &format!("at most {max}"))) } else { Ok(count) }
    }

    /// As [`Self::size`]; `None` when the key is absent or null.
    pub(crate) fn optional_size(&mut self, key: &str) -> Result<Option<usize>, ModelError> {
        let expected = "a whole number above 0";
        match self.optional(key, expected)? {
            Some(0) => Err(self.wrong(key, expected)),
            Some(size) if size > MAX_SIZE => Err(self.wrong(key, &format!("at most {MAX_SIZE}"))),
            size => Ok(size),
        }
    }

    /// A number above 0, finite and normal in f32 like its inverse; `None` when the key is absent or null.
    pub(crate) fn optional_positive(&mut self, key: &str) -> Result<Option<f64>, ModelError> {
        let number: Option<f64> = self.optional(key, "a number above 0")?;
        match number {
            Some(number) if !(number > 0.0 && is_usual(number) && is_usual(1.0 / number)) => {
                Err(self.wrong(key, "a number above 0, within what f32 can hold"))
            }
            number => Ok(number),
        }
    }

    /// As [`Self::optional_positive`], but the key must be present.
    pub(crate) fn positive(&mut self, key: &str) -> Result<f64, ModelError> {
        let number = self.optional_positive(key)?;
        number.ok_or_else(|| self.missing(key))
    }

    /// A boolean, with the family's default.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.optional(key, "true or false")?.unwrap_or(default))
    }

    /// As [`Self::flag`], but null is false.
    pub(crate) fn flag_or_null(&mut self, key: &str, default: bool) -> Result<bool, ModelError> {
        let default = default && !self.is_null(key);
        self.flag(key, default)
    }

    /// The first key present of several spellings; all must agree.
    pub(crate) fn spelled(&mut self, keys: &[&str]) -> Result<Option<usize>, ModelError> {
        let mut found = None;
        for key in keys {
            let size: Option<usize> = self.optional(key, "a whole number")?;
            match (found, size) {
                (Some(first), Some(size)) if size != first => {
                    return Err(self.wrong(key, &format!("{first}, as its other spelling says")));
                }
                (None, Some(_)) => found = size,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Nested object; `None` when it is absent or null.
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Self>, ModelError> {
        self.read.insert(key.to_owned());
        let Some(json) = self.json(key).filter(|&json| json != "null") else { return Ok(None) };
        let malformed = |_| self.wrong(key, "an object");
        let prefix = format!("{}{key}.", self.prefix);
        Self::of(&self.path, prefix, json.as_bytes(), malformed).map(Some)
    }

    /// As [`Self::object`], and the key is then absent; left if the object is not of a kind.
    pub(crate) fn take_object(
        &mut self,
        key: &str,
        is_of_kind: impl FnOnce(&mut Self) -> bool,
    ) -> Result<Option<Self>, ModelError> {
        let is_object = self.json(key).is_some_and(|json| json.starts_with('{'));
        if !is_object {
            return Ok(None);
        }
        let Some(mut object) = self.object(key)? else { return Ok(None) };
        self.read.remove(key);
        if !is_of_kind(&mut object) {
            return Ok(None);
        }
        self.fields.remove(key);
        Ok(Some(object))
    }

    /// Error for a value that is not `expected`.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> ModelError {
        let found = self.json(key).unwrap_or("absent");
        let shown = &found[..found.floor_char_boundary(MAX_SHOWN)];
        let more = if shown.len() < found.len() { "…" } else { "" };
        ModelError::Value {
            path: self.path.clone(),
            key: format!("{}{key}", self.prefix),
            found: format!("{shown}{more}"),
            expected: expected.to_owned(),
        }
    }

    /// Error for a kind of RoPE that the family does not have.
    pub(crate) fn wrong_rope(&self, expected: &str) -> ModelError {
        let is_object = |key: &&str| self.json(key).is_some_and(|json| json.starts_with('{'));
        let key = ["rope_scaling", "rope_parameters"].into_iter().find(is_object);
        self.wrong(key.unwrap_or("rope_parameters"), expected)
    }

    fn json(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(|value| value.get())
    }

    fn missing(&self, key: &str) -> ModelError {
        ModelError::MissingKey { path: self.path.clone(), key: format!("{}{key}", self.prefix) }
    }

    /// Returns the leftovers among the unread keys that are not `harmless`.
    ///
    /// # Errors
    /// Names the first that is none.
    pub(crate) fn finish(
        mut self,
        model_type: &str,
        harmless: &[&str],
    ) -> Result<Vec<String>, ModelError> {
        for (key, value) in &self.fields {
            if self.read.contains(key) || harmless.contains(&&**key) {
                continue;
            }
            let is_aside = leftovers::is_empty(value.get())
                || self.prefix.is_empty() && leftovers::is_aside(key);
            let key = format!("{}{key}", self.prefix);
            if !is_aside {
                let (path, model_type) = (self.path, model_type.to_owned());
                return Err(ModelError::UnknownKey { path, key, model_type });
            }
            self.leftovers.push(key);
        }
        Ok(self.leftovers)
    }

    /// [Finishes](Self::finish) an object of this file.
    pub(crate) fn close(
        &mut self,
        object: Self,
        model_type: &str,
        harmless: &[&str],
    ) -> Result<(), ModelError> {
        self.leftovers.extend(object.finish(model_type, harmless)?);
        Ok(())
    }
}

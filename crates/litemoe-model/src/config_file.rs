use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::ModelError;

/// A JSON object from outside, read key by key: what was never asked for is found out at the end.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) fields: Map<String, Value>,
    /// Prefix of the keys in messages: `rope_scaling.` inside that object.
    prefix: String,
    read: BTreeSet<String>,
}

impl ConfigFile {
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let bytes = fs::read(path).map_err(ModelError::io(path))?;
        let fields = serde_json::from_slice(&bytes)
            .map_err(|source| ModelError::Json { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), fields, prefix: String::new(), read: BTreeSet::new() })
    }

    /// A key's value; `None` when it is absent or null.
    ///
    /// # Errors
    /// When the value has another type than `expected` says.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &str,
        expected: &str,
    ) -> Result<Option<T>, ModelError> {
        self.read.insert(key.to_owned());
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|_| self.wrong(key, expected)),
        }
    }

    /// As [`Self::optional`], and the key must be there.
    pub(crate) fn required<T: DeserializeOwned>(
        &mut self,
        key: &str,
        expected: &str,
    ) -> Result<T, ModelError> {
        let value = self.optional(key, expected)?;
        value.ok_or_else(|| ModelError::MissingKey {
            path: self.path.clone(),
            key: format!("{}{key}", self.prefix),
        })
    }

    /// A count of at least one.
    pub(crate) fn size(&mut self, key: &str) -> Result<usize, ModelError> {
        match self.required(key, "a whole number above 0")? {
            0 => Err(self.wrong(key, "a whole number above 0")),
            size => Ok(size),
        }
    }

    /// A number of parts, each with tensors of its own, above 0 and at most `max`.
    pub(crate) fn count(&mut self, key: &str, max: usize) -> Result<usize, ModelError> {
        let count = self.size(key)?;
        if count > max { Err(self.wrong(key, &format!("at most {max}"))) } else { Ok(count) }
    }

    /// As [`Self::size`]; `None` when the key is absent or null.
    pub(crate) fn optional_size(&mut self, key: &str) -> Result<Option<usize>, ModelError> {
        let size = self.optional(key, "a whole number above 0")?;
        if size == Some(0) { Err(self.wrong(key, "a whole number above 0")) } else { Ok(size) }
    }

    /// A finite number above 0; `None` when the key is absent or null.
    pub(crate) fn optional_positive(&mut self, key: &str) -> Result<Option<f64>, ModelError> {
        let number: Option<f64> = self.optional(key, "a number above 0")?;
        match number {
            Some(number) if !(number > 0.0 && number.is_finite()) => {
                Err(self.wrong(key, "a number above 0"))
            }
            number => Ok(number),
        }
    }

    /// As [`Self::optional_positive`], and the key must be there.
    pub(crate) fn positive(&mut self, key: &str) -> Result<f64, ModelError> {
        let number = self.optional_positive(key)?;
        number.ok_or_else(|| ModelError::MissingKey {
            path: self.path.clone(),
            key: format!("{}{key}", self.prefix),
        })
    }

    /// A truth value with the family's default.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.optional(key, "true or false")?.unwrap_or(default))
    }

    /// The first of several spellings that is there; all must agree.
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

    /// A nested object; `None` when it is absent or null.
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Self>, ModelError> {
        let fields = self.optional(key, "an object")?;
        Ok(fields.map(|fields| Self {
            path: self.path.clone(),
            fields,
            prefix: format!("{}{key}.", self.prefix),
            read: BTreeSet::new(),
        }))
    }

    /// The error that a value is not what it must be.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> ModelError {
        ModelError::Value {
            path: self.path.clone(),
            key: format!("{}{key}", self.prefix),
            found: self.fields.get(key).map_or_else(|| "absent".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }

    /// The error that the kind of rotary embedding is not one the family has.
    pub(crate) fn wrong_rope(&self, expected: &str) -> ModelError {
        let has = |key: &&str| self.fields.get(*key).is_some_and(Value::is_object);
        let key = ["rope_scaling", "rope_parameters"].into_iter().find(has);
        self.wrong(key.unwrap_or("rope_parameters"), expected)
    }

    /// Refuses the first key that nobody read, unless it is `harmless`.
    pub(crate) fn finish(self, model_type: &str, harmless: &[&str]) -> Result<(), ModelError> {
        let known = |key: &str| self.read.contains(key) || harmless.contains(&key);
        match self.fields.keys().find(|key| !known(key)) {
            Some(key) => Err(ModelError::UnknownKey {
                path: self.path.clone(),
                key: format!("{}{key}", self.prefix),
                model_type: model_type.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

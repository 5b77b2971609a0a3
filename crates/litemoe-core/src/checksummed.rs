use std::fmt;
use std::io;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer,
    MapAccess, Visitor,
};
use serde::ser::{Error as _, Serialize, Serializer};
use sha2::{Digest, Sha256};
use thiserror::Error as ThisError;

use crate::fingerprint::hex;

/// Member of a record's JSON object with the hash of the others.
const KEY: &str = "sha256";

/// Record with a checksum. Serialized as the record's JSON object and one more member, `sha256`: the SHA-256, in hex,
/// of the record's canonical JSON, which is compact, with fields in declaration order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksummed<T>(pub T);

impl<T: Serialize + DeserializeOwned> Checksummed<T> {
    /// Parses a record and checks its checksum; a record without one is not checked.
    ///
    /// # Errors
    /// Invalid JSON, and contents of another hash than the record states.
    pub fn parse(json: &[u8]) -> Result<T, ChecksumError> {
        let Read { record, stated } = serde_json::from_slice(json)?;
        let Some(stated) = stated else { return Ok(record) };
        let found = canonical_sha256(&record)?;
        if found == stated { Ok(record) } else { Err(ChecksumError::Changed { stated, found }) }
    }
}

/// Error of reading a record with a checksum.
#[derive(Debug, ThisError)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ChecksumError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(
        "it was changed or damaged: its contents have the SHA-256 {found}, but it states {stated}"
    )]
    Changed { stated: String, found: String },
}

impl<T: Serialize> Serialize for Checksummed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Written<'a, T> {
            #[serde(flatten)]
            record: &'a T,
            sha256: String,
        }
        let sha256 = canonical_sha256(&self.0).map_err(S::Error::custom)?;
        Written { record: &self.0, sha256 }.serialize(serializer)
    }
}

fn canonical_sha256<T: Serialize>(record: &T) -> Result<String, serde_json::Error> {
    let mut hash = HashWriter(Sha256::new());
    serde_json::to_writer(&mut hash, record)?;
    Ok(hex(&hash.0.finalize()))
}

struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A record as read, and the hash that it states.
struct Read<T> {
    record: T,
    stated: Option<String>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadVisitor(PhantomData))
    }
}

struct ReadVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ReadVisitor<T> {
    type Value = Read<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Read<T>, M::Error> {
        let mut stated = None;
        let members = Members { map, stated: &mut stated };
        let record = T::deserialize(MapAccessDeserializer::new(members))?;
        Ok(Read { record, stated })
    }
}

/// The members of an object except [`KEY`].
struct Members<'a, M> {
    map: M,
    stated: &'a mut Option<String>,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Members<'_, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != KEY {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            if self.stated.replace(self.map.next_value()?).is_some() {
                return Err(M::Error::duplicate_field(KEY));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.map.next_value_seed(seed)
    }
}

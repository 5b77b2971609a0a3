use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::RegistryError;
use crate::sha256_hash::Sha256Hash;

/// What keys begin with.
const PREFIX: &str = "lm-";

/// Random bytes of a public id.
const ID_BYTES: usize = 8;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A key that was just made: the only moment at which its secret is known.
///
/// Its text is `lm-ID-SECRET`: a public id of 16 hexadecimal digits and a secret of 64, which are 256 random bits. The
/// registry keeps the SHA-256 of the secret. A slow hash with a salt, as for passwords, would add nothing: nobody
/// guesses 256 random bits, and no two keys have the same secret.
#[derive(Clone)]
pub struct NewKey {
    id: String,
    secret: String,
}

impl NewKey {
    pub(crate) fn random() -> Result<Self, RegistryError> {
        Ok(Self { id: random_hex::<ID_BYTES>()?, secret: random_hex::<SECRET_BYTES>()? })
    }

    /// Public id, which names the key in lists.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as a client sends it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}-{}", self.id, self.secret)
    }

    pub(crate) fn secret_hash(&self) -> Sha256Hash {
        hash(&self.secret)
    }
}

impl fmt::Debug for NewKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key as a client sends it, divided into public id and secret. A text of any other form has an id that no key has, so
/// that it is checked by the same work.
#[derive(Clone, Copy)]
pub(crate) struct GivenKey<'a> {
    pub(crate) id: &'a str,
    secret: &'a str,
}

impl<'a> GivenKey<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        let (id, secret) = parts.unwrap_or(("", text));
        Self { id, secret }
    }

    /// Whether the secret has the hash, in a time that does not depend on how much of it is equal; false without a hash,
    /// after the same work.
    pub(crate) fn has_hash(&self, expected: Option<Sha256Hash>) -> bool {
        let nobodys = Sha256Hash::new([0; 32]);
        let is_equal = hash(self.secret).bytes().ct_eq(expected.unwrap_or(nobodys).bytes());
        bool::from(is_equal) && expected.is_some()
    }
}

fn hash(secret: &str) -> Sha256Hash {
    Sha256Hash::new(Sha256::digest(secret).into())
}

/// Random bytes of the system, as hexadecimal digits.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, RegistryError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|reason| RegistryError::Random { reason })?;
    Ok(hex::encode(bytes))
}

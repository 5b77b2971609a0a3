//! Hashes by which the Hub names contents: SHA-256 of large files (LFS), git blob hash of all others.

use std::fmt;
use std::str::FromStr;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Hash of a file's contents, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    /// SHA-1 of `blob`, the length and the contents, 40 digits.
    GitBlob(String),
    /// SHA-256 of the contents, 64 digits.
    Sha256(String),
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            40 if is_hex => Ok(Self::GitBlob(text.to_owned())),
            64 if is_hex => Ok(Self::Sha256(text.to_owned())),
            _ => Err(format!("{text:?} is neither 40 nor 64 lower-case hexadecimal digits")),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Digest {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::GitBlob(hex) | Self::Sha256(hex) => hex,
        }
    }

    /// Name of the hash function.
    pub(super) fn function(&self) -> &'static str {
        match self {
            Self::GitBlob(_) => "git blob hash",
            Self::Sha256(_) => "SHA-256",
        }
    }

    /// Hasher of the same kind, for contents of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0"))),
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
        }
    }
}

/// Incremental hash.
pub(super) enum Hasher {
    GitBlob(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::GitBlob(sha1) => sha1.update(bytes),
            Self::Sha256(sha256) => sha256.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::GitBlob(sha1) => Digest::GitBlob(hex(&sha1.finalize())),
            Self::Sha256(sha256) => Digest::Sha256(hex(&sha256.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, `… | sha256sum`.
        for hex in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let digest: Digest = hex.parse().expect(hex);
            let mut hasher = digest.hasher(6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), digest);
        }
    }

    #[test]
    fn other_names_of_contents_are_refused() {
        let upper = "AB".repeat(20);
        let path = format!("../../{}", "a".repeat(34));
        for text in ["", "ab", "../x", &upper, &path, &"a".repeat(41), &"é".repeat(20)] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}

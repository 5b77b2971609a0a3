use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use litemoe_core::{Checksummed, Fingerprint};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::{PLAN_FILE, PLAN_LIMITS};
use crate::proxy::names::{SIDE_FILES, WEIGHT_FILE, read_side_file};
use crate::{Checkpoint, ModelError, Origin};

/// File name of the record of a proxy's files.
pub(super) const RECORD_FILE: &str = "litemoe_proxy.json";

/// Schema version of the record.
const VERSION: u32 = 1;

/// Maximum bytes of a file that is hashed: those of the largest, the plan.
const MAX_HASHED_BYTES: u64 = PLAN_LIMITS.max_bytes;

/// `litemoe_proxy.json`: hashes of a proxy's files as they were written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyRecord {
    version: u32,
    /// Fingerprint: hash of the weights and of what the configuration means.
    fingerprint: Fingerprint,
    /// Metadata of the weight file.
    origin: Option<Origin>,
    /// SHA-256 of every other file, by name.
    files: BTreeMap<String, String>,
}

impl ProxyRecord {
    /// The record of a proxy as it is; hashes all its files.
    pub(super) fn of(proxy: &Checkpoint) -> Result<Self, ModelError> {
        let mut files = BTreeMap::new();
        for name in names() {
            let path = proxy.dir().join(name);
            if path.exists() {
                files.insert(name.to_owned(), sha256(&path)?);
            }
        }
        let (fingerprint, origin) = (proxy.fingerprint().clone(), proxy.origin().cloned());
        Ok(Self { version: VERSION, fingerprint, origin, files })
    }
}

/// Names of the recorded files other than the weights.
fn names() -> impl Iterator<Item = &'static str> {
    ["config.json", PLAN_FILE].into_iter().chain(SIDE_FILES)
}

/// SHA-256 of a file, in hex; the file is never in memory as a whole.
fn sha256(path: &Path) -> Result<String, ModelError> {
    let hashed = || {
        let mut file = File::open(path)?.take(MAX_HASHED_BYTES + 1);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hash.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if file.limit() == 0 {
            let message = format!("it has more than {MAX_HASHED_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    hashed().map_err(ModelError::io(path))
}

impl Checkpoint {
    /// Checks the files of a proxy against `litemoe_proxy.json`, the hashes that were written with them. Does nothing
    /// in a directory without that record, such as a foundation or a proxy of an earlier version. Uses the
    /// [fingerprint](Self::fingerprint), so a [cache](Self::cached) saves hashing the weights.
    ///
    /// # Errors
    /// Names the file that was changed or damaged, with its recorded and its present hash, or that was added or removed.
    pub fn check_record(&self) -> Result<(), ModelError> {
        let path = self.dir().join(RECORD_FILE);
        if !path.exists() {
            return Ok(());
        }
        let record: ProxyRecord =
            Checksummed::parse(&read_side_file(&path)?).map_err(ModelError::checksum(&path))?;
        if record.version != VERSION {
            let (key, found) = ("version".to_owned(), record.version.to_string());
            return Err(ModelError::Value { path, key, found, expected: VERSION.to_string() });
        }
        for name in names() {
            let path = self.dir().join(name);
            let Some(stated) = record.files.get(name) else {
                if path.exists() {
                    return Err(ModelError::Added { path });
                }
                continue;
            };
            let found = sha256(&path)?;
            if found != *stated {
                return Err(ModelError::Changed { path, stated: stated.clone(), found });
            }
        }
        if record.origin.as_ref() != self.origin() {
            let (key, found) = ("__metadata__".to_owned(), format!("{:?}", self.origin()));
            let path = self.dir().join(WEIGHT_FILE);
            return Err(ModelError::Value {
                path,
                key,
                found,
                expected: format!("{:?}", record.origin),
            });
        }
        if record.fingerprint != *self.fingerprint() {
            let [stated, found] =
                [&record.fingerprint, self.fingerprint()].map(|it| it.to_string());
            return Err(ModelError::Changed { path: self.dir().to_owned(), stated, found });
        }
        Ok(())
    }
}

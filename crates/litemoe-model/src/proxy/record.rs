use std::collections::BTreeMap;

use litemoe_core::{Checksummed, Fingerprint, sha256_hex};
use litemoe_files::read_limited;
use serde::{Deserialize, Serialize};

use crate::checkpoint::PLAN_FILE;
use crate::proxy::names::{MAX_SIDE_BYTES, SIDE_FILES, WEIGHT_FILE};
use crate::{Checkpoint, ModelError, Origin};

/// File name of the record of a proxy's files.
pub(super) const RECORD_FILE: &str = "litemoe_proxy.json";

/// Schema version of the record.
const VERSION: u32 = 1;

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
                let bytes = read_limited(&path, MAX_SIDE_BYTES).map_err(ModelError::io(&path))?;
                files.insert(name.to_owned(), sha256_hex(&bytes));
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

impl Checkpoint {
    /// Checks the files of a proxy against `litemoe_proxy.json`, the hashes that were written with them. Does nothing
    /// in a directory without that record, such as a foundation or a proxy of an earlier version. Uses the
    /// [fingerprint](Self::fingerprint), so a [cache](Self::cached) saves hashing the weights.
    ///
    /// # Errors
    /// Names the file that was changed or damaged, with its recorded and its present hash.
    pub fn check_record(&self) -> Result<(), ModelError> {
        let path = self.dir().join(RECORD_FILE);
        if !path.exists() {
            return Ok(());
        }
        let bytes = read_limited(&path, MAX_SIDE_BYTES).map_err(ModelError::io(&path))?;
        let record: ProxyRecord =
            Checksummed::parse(&bytes).map_err(ModelError::checksum(&path))?;
        if record.version != VERSION {
            let (key, found) = ("version".to_owned(), record.version.to_string());
            return Err(ModelError::Value { path, key, found, expected: VERSION.to_string() });
        }
        for (name, stated) in names().filter_map(|name| Some((name, record.files.get(name)?))) {
            let path = self.dir().join(name);
            let found =
                sha256_hex(&read_limited(&path, MAX_SIDE_BYTES).map_err(ModelError::io(&path))?);
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

//! Directories that `customize` writes for itself. Each holds a record of its files, so that only what the program wrote
//! is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use litemoe_core::sha256_hex;
use litemoe_files::{StagedDir, holds_only};

use crate::artefact;

/// Record in the directory: the SHA-256 of each file, by name.
const RECORD: &str = ".litemoe-written.json";

/// Writes a directory of files and their record atomically, unless the files are there with the same contents. Replaces
/// only a directory that [`write()`] wrote, as long as it is unchanged.
pub(crate) fn write(dir: &Path, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    let is_there =
        |(name, bytes): &(&str, &[u8])| fs::read(dir.join(name)).is_ok_and(|found| found == *bytes);
    if files.iter().all(is_there) {
        return Ok(());
    }
    artefact::create_parent(dir)?;
    let hashes = files.iter().map(|(name, bytes)| (*name, sha256_hex(bytes)));
    let record = serde_json::to_string_pretty(&hashes.collect::<BTreeMap<_, _>>())?;
    let write = || -> std::io::Result<()> {
        let mut staged = StagedDir::new(dir, is_own)?;
        for (name, bytes) in files.iter().copied().chain([(RECORD, record.as_bytes())]) {
            staged.file(name)?.write_all(bytes)?;
        }
        staged.commit()
    };
    write().with_context(|| format!("cannot write {}", dir.display()))
}

/// Whether a directory holds the files of its record, unchanged, and nothing else.
fn is_own(dir: &Path) -> bool {
    let Ok(record) = artefact::read::<BTreeMap<String, String>>(&dir.join(RECORD)) else {
        return false;
    };
    let names: Vec<&str> = record.keys().map(String::as_str).chain([RECORD]).collect();
    let is_unchanged = |(name, hash): (&String, &String)| {
        artefact::sha256(&dir.join(name)).is_ok_and(|found| found == *hash)
    };
    holds_only(dir, &names) && record.iter().all(is_unchanged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_record_of_the_files_makes_a_directory_the_programs_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("foundation");
        write(&dir, &[("a", b"1"), ("b", b"2")]).expect("written");
        assert!(is_own(&dir));
        let record = fs::read(dir.join(RECORD)).expect("a record");
        let read = |json: &[u8]| serde_json::from_slice::<BTreeMap<String, String>>(json).ok();
        let mut others = 0;
        litemoe_fixtures::fuzz::fuzz_json(std::slice::from_ref(&record), |_, document| {
            fs::write(dir.join(RECORD), document).expect("written");
            assert_eq!(is_own(&dir), read(document) == read(&record));
            others += usize::from(!is_own(&dir));
        });
        assert!(others > 0);
    }
}

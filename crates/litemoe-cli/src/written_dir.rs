//! Directories that `customize` writes for itself. Each holds a record of its files, so that only what the program wrote
//! is replaced.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use litemoe_core::sha256_hex;
use litemoe_files::{StagedDir, check_target, holds_only};

use crate::artefact;

/// Record in the directory: the SHA-256 of each file, by name.
const RECORD: &str = ".litemoe-written.json";

/// Directory of files that `customize` writes, unless they are there with the same contents. Replaces only a directory
/// that was written so, as long as it is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenDir {
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<(String, Cow<'static, [u8]>)>,
}

impl WrittenDir {
    /// Whether the files are there with the same contents.
    pub(crate) fn is_there(&self) -> bool {
        let is_there = |(name, bytes): &(String, Cow<'_, [u8]>)| holds(&self.dir.join(name), bytes);
        self.files.iter().all(is_there)
    }

    /// Total bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Checks that [`Self::write`] may replace what is there.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        check_target(&self.dir, is_own).with_context(|| cannot_write(&self.dir))
    }

    /// Writes the files and their record atomically.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        artefact::create_parent(&self.dir)?;
        let hashes = self.files.iter().map(|(name, bytes)| (&**name, sha256_hex(bytes)));
        let record = serde_json::to_string_pretty(&hashes.collect::<BTreeMap<_, _>>())?;
        let files = self.files.iter().map(|(name, bytes)| (&**name, &**bytes));
        let write = || -> std::io::Result<()> {
            let mut staged = StagedDir::new(&self.dir, is_own)?;
            for (name, bytes) in files.chain([(RECORD, record.as_bytes())]) {
                staged.file(name)?.write_all(bytes)?;
            }
            staged.commit()
        };
        write().with_context(|| cannot_write(&self.dir))
    }

    /// Directory to read the files from before they are written: their own if they are there, else a copy in `scratch`.
    pub(crate) fn readable(&self, scratch: &Path) -> anyhow::Result<PathBuf> {
        if self.is_there() {
            return Ok(self.dir.clone());
        }
        let copy = scratch.join(self.dir.file_name().unwrap_or_default());
        let write = || -> std::io::Result<()> {
            fs::create_dir(&copy)?;
            self.files.iter().try_for_each(|(name, bytes)| fs::write(copy.join(name), bytes))
        };
        write().with_context(|| cannot_write(&copy))?;
        Ok(copy)
    }
}

/// Whether a file has this content; reads it in blocks.
fn holds(path: &Path, mut bytes: &[u8]) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block) {
            Ok(0) => return bytes.is_empty(),
            Ok(n) => match bytes.strip_prefix(&block[..n]) {
                Some(rest) => bytes = rest,
                None => return false,
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn cannot_write(dir: &Path) -> String {
    format!("cannot write {}", dir.display())
}

/// Whether a directory holds the files of its record, unchanged, and nothing else.
fn is_own(dir: &Path) -> bool {
    let Ok(record) = artefact::read_plain::<BTreeMap<String, String>>(&dir.join(RECORD)) else {
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
    use litemoe_fixtures::fuzz::Bound;

    use super::*;

    #[test]
    fn only_the_record_of_the_files_makes_a_directory_the_programs_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("foundation");
        let files = [("a", b"1"), ("b", b"2")];
        let files = files.map(|(name, bytes)| (name.to_owned(), Cow::Borrowed(&bytes[..])));
        let written = WrittenDir { dir: dir.clone(), files: files.into() };
        written.write().expect("written");
        assert!(is_own(&dir));
        let record = fs::read(dir.join(RECORD)).expect("a record");
        let read = |json: &[u8]| serde_json::from_slice::<BTreeMap<String, String>>(json).ok();
        // And a block of a file that is hashed.
        let bound = Bound { fixed: (1 << 20) + (1 << 16), ..artefact::BOUND };
        let mut others = 0;
        litemoe_fixtures::fuzz::fuzz_json(std::slice::from_ref(&record), |_, document| {
            fs::write(dir.join(RECORD), document).expect("written");
            let mut is_this = false;
            let allocated = allocation_counter::measure(|| is_this = is_own(&dir));
            bound.check(document, allocated.bytes_max);
            assert_eq!(is_this, read(document) == read(&record));
            others += usize::from(!is_this);
        });
        assert!(others > 0);
    }
}

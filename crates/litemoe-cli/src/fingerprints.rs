//! Fingerprint cache: fingerprints of model directories on disk, so that a large checkpoint is not hashed in every run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use litemoe_core::{Fingerprint, sha256_hex};
use litemoe_model::FingerprintCache;
use serde::{Deserialize, Serialize};

use crate::artefact;
use crate::stamp::Stamp;

/// Set by `--verify`: ignore the cache.
static VERIFY: OnceLock<()> = OnceLock::new();

/// Disables cached fingerprints for this process.
pub(crate) fn verify() {
    let _ = VERIFY.set(());
}

/// Whether [`verify`] was called.
pub(crate) fn is_verified() -> bool {
    VERIFY.get().is_some()
}

/// Set by `--dry-run`: write nothing to the cache.
static READ_ONLY: OnceLock<()> = OnceLock::new();

/// From now on, this process keeps no fingerprints.
pub(crate) fn keep_none() {
    let _ = READ_ONLY.set(());
}

/// Format of the entries, and of what a fingerprint covers: other entries are ignored.
const FORMAT: &str = concat!("1 ", env!("CARGO_PKG_VERSION"));

/// Entry of one model directory in the user's fingerprint cache. Read and write errors are ignored; the fingerprint is
/// then computed.
#[derive(Debug)]
pub(crate) struct CacheEntry {
    /// `None` without a cache directory.
    file: Option<PathBuf>,
    dir: PathBuf,
    /// Stamps of the directory's files before it was opened.
    files: Option<Vec<Stamp>>,
}

/// Content of an entry.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: String,
    dir: PathBuf,
    files: Vec<Stamp>,
    fingerprint: Fingerprint,
}

impl CacheEntry {
    /// The entry of a directory that is about to be opened, below `LITEMOE_CACHE`, else `XDG_CACHE_HOME/litemoe`, else
    /// `.cache/litemoe` in the home directory.
    pub(crate) fn of(dir: &Path) -> Self {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let own = folder("LITEMOE_CACHE").map(PathBuf::from);
        let cache = || folder("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("litemoe"));
        let home = || folder("HOME").map(|home| Path::new(&home).join(".cache/litemoe"));
        Self::below(own.or_else(cache).or_else(home), dir)
    }

    fn below(cache: Option<PathBuf>, dir: &Path) -> Self {
        let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let name = sha256_hex(dir.as_os_str().as_encoded_bytes());
        let file = cache.map(|cache| cache.join("fingerprints").join(name).with_extension("json"));
        Self { file, files: stamps(&dir), dir }
    }

    /// The stamps, if no file has changed since before the directory was opened.
    fn unchanged(&self) -> Option<&Vec<Stamp>> {
        self.files.as_ref().filter(|files| stamps(&self.dir).as_ref() == Some(files))
    }
}

impl FingerprintCache for CacheEntry {
    fn find(&self) -> Option<Fingerprint> {
        let file = self.file.as_ref().filter(|file| !is_verified() && file.is_file())?;
        let Kept { format, dir, files, fingerprint } = artefact::read(file).ok()?;
        let is_known = format == FORMAT && dir == self.dir && Some(&files) == self.unchanged();
        let text = fingerprint.to_string();
        let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let found = (is_known && is_hash).then_some(fingerprint);
        if let Some(fingerprint) = &found {
            tracing::info!(dir = %self.dir.display(), %fingerprint, "read a fingerprint from the cache");
        }
        found
    }

    fn keep(&self, fingerprint: &Fingerprint) {
        tracing::info!(dir = %self.dir.display(), %fingerprint, "computed a fingerprint");
        let keep = || {
            let (file, files) = (self.file.as_ref()?, self.unchanged()?);
            if READ_ONLY.get().is_some() || !files.iter().all(Stamp::is_settled) {
                return None;
            }
            let (format, dir) = (FORMAT.to_owned(), self.dir.clone());
            let kept = Kept { format, dir, files: files.clone(), fingerprint: fingerprint.clone() };
            artefact::write_checksummed(file, &kept).ok()
        };
        if keep().is_none() {
            tracing::debug!(dir = %self.dir.display(), "the fingerprint is not kept");
        }
    }
}

/// Stamps of a directory's files in order of their names; links are followed.
fn stamps(dir: &Path) -> Option<Vec<Stamp>> {
    let files = fs::read_dir(dir).ok()?.map(|entry| Stamp::of(&entry.ok()?.path()));
    let mut stamps = files.collect::<Option<Vec<_>>>()?;
    stamps.sort_by(|x, y| x.name.cmp(&y.name));
    Some(stamps)
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use litemoe_fixtures::fuzz::{Bound, fuzz_json};

    use super::*;
    use crate::stamp::SETTLED;

    /// Bound of looking an entry up, with the stamps of the directory's files now.
    const ENTRY: Bound = Bound { fixed: 1 << 16, ..artefact::BOUND };

    fn model() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("model.safetensors"), "weights").expect("a file");
        dir
    }

    fn hash() -> Fingerprint {
        Fingerprint::new(sha256_hex(b"f"))
    }

    #[test]
    fn a_fingerprint_is_kept_until_a_file_changes() {
        let (cache, dir) = (tempfile::tempdir().expect("a folder"), model());
        let entry = || CacheEntry::below(Some(cache.path().to_owned()), dir.path());
        let weights = dir.path().join("model.safetensors");
        entry().keep(&hash());
        assert_eq!(entry().find(), None, "its file may still change");
        sleep(SETTLED + Duration::from_secs(1));
        let opened = entry();
        opened.keep(&hash());
        assert_eq!((opened.find(), entry().find()), (Some(hash()), Some(hash())));
        // The same size and modification time.
        let modified = fs::metadata(&weights).and_then(|it| it.modified()).expect("a time");
        fs::write(&weights, "changed").expect("a file");
        let file = fs::File::options().write(true).open(&weights).expect("the file");
        file.set_modified(modified).expect("a modification time");
        assert_eq!((opened.find(), entry().find()), (None, None), "its file has changed");
        sleep(SETTLED + Duration::from_secs(1));
        opened.keep(&hash());
        assert_eq!(entry().find(), None, "what was opened is no longer there");
    }

    #[test]
    fn entries_that_are_none_are_ignored() {
        let (cache, dir) = (tempfile::tempdir().expect("a folder"), model());
        sleep(SETTLED + Duration::from_secs(1));
        let entry = CacheEntry::below(Some(cache.path().to_owned()), dir.path());
        entry.keep(&hash());
        let file = entry.file.clone().expect("a file");
        let text = fs::read_to_string(&file).expect("an entry");
        for broken in
            [text.replace(FORMAT, "0 0.0.0"), text.replace(&hash().to_string(), ""), "{".to_owned()]
        {
            assert_ne!(text, broken);
            fs::write(&file, broken).expect("an entry");
            assert_eq!(entry.find(), None);
        }
        let nowhere = CacheEntry::below(None, dir.path());
        nowhere.keep(&hash());
        assert_eq!(nowhere.find(), None);
    }

    /// A directory whose files are as they were, and what the cache has of it.
    #[test]
    fn fuzzed_entries() {
        let (cache, dir) = (tempfile::tempdir().expect("a folder"), model());
        let entry = CacheEntry::below(Some(cache.path().to_owned()), dir.path());
        let (file, files) = (entry.file.clone().expect("a file"), entry.files.clone());
        let kept = Kept {
            format: FORMAT.to_owned(),
            dir: entry.dir.clone(),
            files: files.expect("stamps"),
            fingerprint: hash(),
        };
        artefact::write_checksummed(&file, &kept).expect("written");
        let unchecked = serde_json::to_vec(&kept).expect("JSON");
        let documents = [fs::read(&file).expect("an entry"), unchecked];
        let mut found = [0; 2];
        fuzz_json(&documents, |from, document| {
            fs::write(&file, document).expect("written");
            let mut fingerprint = None;
            let allocated = allocation_counter::measure(|| fingerprint = entry.find());
            ENTRY.check(document, allocated.bytes_max);
            let Some(fingerprint) = fingerprint else { return };
            found[from] += 1;
            let read: Kept = artefact::read(&file).expect("an entry");
            let are = (&read.format, &read.dir, &read.files, &read.fingerprint);
            assert_eq!(are, (&kept.format, &kept.dir, &kept.files, &fingerprint));
            // What nothing uses may be of bytes that are no text.
            let json = serde_json::from_slice::<serde_json::Value>(document);
            let is_checked = json.is_ok_and(|json| json.get("sha256").is_some());
            assert!(!is_checked || fingerprint == hash(), "{fingerprint}");
        });
        assert!(found.iter().all(|&n| n > 0), "{found:?}");
    }
}

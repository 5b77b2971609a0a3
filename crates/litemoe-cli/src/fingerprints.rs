//! Fingerprint cache: fingerprints of model directories on disk, so that a large checkpoint is not hashed in every run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use litemoe_core::{Fingerprint, sha256_hex};
use litemoe_model::FingerprintCache;
use serde::{Deserialize, Serialize};

use crate::artefact;

/// Minimum age of a file's last change: a younger file may change again without a new modification time.
const SETTLED: Duration = Duration::from_secs(2);

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

/// Fingerprint cache in the user's cache directory, one file per model directory. Read and write errors are ignored;
/// the fingerprint is then computed.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    /// `None` without a cache directory.
    folder: Option<PathBuf>,
}

/// Cache entry of a model directory.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    dir: PathBuf,
    files: Vec<Stamp>,
    fingerprint: Fingerprint,
}

/// Name, size and modification time of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    name: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Fingerprints {
    /// Opens the cache below `LITEMOE_CACHE`, else `XDG_CACHE_HOME/litemoe`, else `.cache/litemoe` in the home
    /// directory.
    pub(crate) fn open() -> Self {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let own = folder("LITEMOE_CACHE").map(PathBuf::from);
        let cache = || folder("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("litemoe"));
        let home = || folder("HOME").map(|home| Path::new(&home).join(".cache/litemoe"));
        Self { folder: own.or_else(cache).or_else(home).map(|dir| dir.join("fingerprints")) }
    }

    fn file(&self, dir: &Path) -> Option<PathBuf> {
        let name = sha256_hex(dir.as_os_str().as_encoded_bytes());
        Some(self.folder.as_ref()?.join(name).with_extension("json"))
    }
}

impl FingerprintCache for Fingerprints {
    fn find(&self, dir: &Path) -> Option<Fingerprint> {
        if is_verified() {
            return None;
        }
        let dir = fs::canonicalize(dir).ok()?;
        let kept: Kept = artefact::read(&self.file(&dir)?).ok()?;
        let unchanged = kept.dir == dir && Some(kept.files) == stamps(&dir);
        unchanged.then_some(kept.fingerprint)
    }

    fn keep(&self, dir: &Path, fingerprint: &Fingerprint) {
        let keep = || {
            let dir = fs::canonicalize(dir).ok()?;
            let (file, files) = (self.file(&dir)?, stamps(&dir)?);
            let is_settled =
                |stamp: &Stamp| stamp.modified.elapsed().is_ok_and(|age| age > SETTLED);
            if !files.iter().all(is_settled) {
                return None;
            }
            artefact::write(&file, &Kept { dir, files, fingerprint: fingerprint.clone() }).ok()
        };
        if keep().is_none() {
            tracing::debug!(dir = %dir.display(), "the fingerprint is not kept");
        }
    }
}

/// Stamps of a directory's files in order of their names; links are followed.
fn stamps(dir: &Path) -> Option<Vec<Stamp>> {
    let stamp = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let metadata = fs::metadata(&path).ok()?;
        let (bytes, modified) = (metadata.len(), metadata.modified().ok()?);
        Some(Stamp { name: path.file_name()?.into(), bytes, modified })
    };
    let mut stamps = fs::read_dir(dir).ok()?.map(stamp).collect::<Option<Vec<_>>>()?;
    stamps.sort_by(|x, y| x.name.cmp(&y.name));
    Some(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Model directory with one file, last changed `age` seconds ago.
    fn model(age: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model.safetensors");
        fs::write(&path, "weights").expect("a file");
        set_age(&path, age);
        dir
    }

    fn set_age(path: &Path, seconds: u64) {
        let modified = SystemTime::now() - Duration::from_secs(seconds);
        let file = fs::File::options().write(true).open(path).expect("the file");
        file.set_modified(modified).expect("a modification time");
    }

    #[test]
    fn a_fingerprint_is_kept_until_a_file_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Fingerprints { folder: Some(folder.path().to_owned()) };
        let (old, fresh) = (model(100), model(0));
        let fingerprint = Fingerprint::new("f");
        assert_eq!(cache.find(old.path()), None);
        for dir in [&old, &fresh] {
            cache.keep(dir.path(), &fingerprint);
        }
        assert_eq!(cache.find(old.path()), Some(fingerprint.clone()));
        assert_eq!(cache.find(fresh.path()), None, "its file may still change");
        let weights = old.path().join("model.safetensors");
        set_age(&weights, 50);
        assert_eq!(cache.find(old.path()), None, "its file has another modification time");
        cache.keep(old.path(), &fingerprint);
        fs::write(old.path().join("plan.json"), "{}").expect("a file");
        assert_eq!(cache.find(old.path()), None, "there is another file");
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let (cache, dir) = (Fingerprints { folder: None }, model(100));
        cache.keep(dir.path(), &Fingerprint::new("f"));
        assert_eq!(cache.find(dir.path()), None);
    }
}

//! Writing into one model's directory of the cache, in the layout of `huggingface_hub`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::listing::Listed;
use super::{ModelId, cache, digest::Digest};

/// A model's directory in the cache. Nothing is written through a link: every directory below the cache's root is
/// checked to be one, and every file that is opened or replaced to be a regular file.
pub(super) struct RepoCache {
    /// The cache's root, without links.
    root: PathBuf,
    /// `models--org--name`.
    folder: String,
}

impl RepoCache {
    /// Opens the cache, and creates its root.
    pub(super) fn open(id: &ModelId) -> anyhow::Result<Self> {
        let root = cache::dir()?;
        let opened = fs::create_dir_all(&root).and_then(|()| fs::canonicalize(&root));
        let root = opened.with_context(|| format!("the hub's cache, {}", root.display()))?;
        Ok(Self { root, folder: cache::folder(id) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Path of contents, which may not exist.
    pub(super) fn blob(&self, digest: &Digest) -> anyhow::Result<PathBuf> {
        Ok(self.dir(&[&self.folder, "blobs"])?.join(digest.as_str()))
    }

    /// Directory of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> anyhow::Result<PathBuf> {
        self.dir(&[&self.folder, "snapshots", commit])
    }

    /// Path of the ref of a revision.
    pub(super) fn reference(&self, revision: &str) -> anyhow::Result<PathBuf> {
        let mut parts = vec![self.folder.as_str(), "refs"];
        parts.extend(revision.split('/'));
        let name = parts.pop().unwrap_or_default();
        let path = self.dir(&parts)?.join(name);
        length(&path)?;
        Ok(path)
    }

    /// Locks contents while they are fetched; `huggingface_hub` locks the same file.
    pub(super) fn lock(&self, digest: &Digest) -> anyhow::Result<File> {
        let path = self.dir(&[".locks", &self.folder])?.join(format!("{digest}.lock"));
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                bail!("another program is fetching it: {} is locked", path.display())
            }
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Whether a snapshot has a file: a link to its contents, or a file of its length.
    pub(super) fn has(&self, pointer: &Path, listed: &Listed) -> anyhow::Result<bool> {
        let size = match fs::read_link(pointer) {
            Ok(to) if to == target(&listed.digest) => length(&self.blob(&listed.digest)?)?,
            Ok(_) => None,
            Err(_) => length(pointer)?,
        };
        Ok(size == Some(listed.size))
    }

    /// Links contents into a snapshot; replaces another link or file.
    pub(super) fn link(&self, pointer: &Path, digest: &Digest) -> anyhow::Result<()> {
        let removed = match fs::remove_file(pointer) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        removed
            .and_then(|()| link(digest, &self.blob(digest).map_err(io::Error::other)?, pointer))
            .with_context(|| format!("cannot write {}", pointer.display()))
    }

    /// Directory below the root, created if it does not exist.
    fn dir(&self, parts: &[&str]) -> anyhow::Result<PathBuf> {
        let mut dir = self.root.clone();
        for part in parts {
            dir.push(part);
            let made = fs::create_dir(&dir);
            let found = match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => fs::symlink_metadata(&dir),
            };
            let found = found.with_context(|| format!("cannot write {}", dir.display()))?;
            if !found.is_dir() {
                bail!("{} is not a folder, as the hub's cache has there: remove it", dir.display());
            }
        }
        Ok(dir)
    }
}

/// Length of a regular file; `None` if there is nothing.
///
/// # Errors
/// When it is a link, a directory or a device.
pub(super) fn length(path: &Path) -> anyhow::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => {
            bail!("{} is not a file, as the hub's cache has there: remove it", path.display())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Opens a regular file for reading and writing, and creates it if there is none.
pub(super) fn open(path: &Path) -> anyhow::Result<File> {
    length(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Target of a snapshot's link.
fn target(digest: &Digest) -> PathBuf {
    Path::new("../../blobs").join(digest.as_str())
}

#[cfg(unix)]
fn link(digest: &Digest, _: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target(digest), pointer)
}

#[cfg(not(unix))]
fn link(_: &Digest, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer)
}

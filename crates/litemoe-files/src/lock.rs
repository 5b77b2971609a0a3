use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::target::{Target, check_target_file};

/// Exclusive lock of an output among processes that lock it, until it is dropped or the process ends: the empty file
/// `.name.litemoe-lock` next to it.
#[derive(Debug)]
pub struct TargetLock {
    path: PathBuf,
    // Dropped, and so unlocked, after it is removed.
    file: File,
}

impl TargetLock {
    /// Locks a target, which need not exist. Its parent is created.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if it is locked, also by this process,
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the lock file has content, and I/O errors.
    pub fn new(target: &Path) -> io::Result<Self> {
        let target = Target::of(target)?;
        fs::create_dir_all(&target.parent)?;
        let path = target.lock_file();
        loop {
            check_target_file(&path)?;
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let message =
                        format!("another program is at work on {}", target.path().display());
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if file.metadata()?.len() > 0 {
                let message =
                    format!("{} is not empty, so it is no lock: remove it", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            // Another process may have removed the file between opening and locking.
            if is_at(&file, &path)? {
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for TargetLock {
    fn drop(&mut self) {
        let is_empty = || self.file.metadata().is_ok_and(|found| found.len() == 0);
        // Elsewhere than on Unix it could not be told whether a locked file is the one at the path.
        if cfg!(unix) && is_empty() && is_at(&self.file, &self.path).is_ok_and(|is_at| is_at) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(id(found) == id(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

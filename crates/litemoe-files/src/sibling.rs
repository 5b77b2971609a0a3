//! Temporary files and directories next to a target. Each is locked while its process lives, so that those of dead
//! processes can be told apart.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::target::{N_RANDOM, Target};

/// Permissions of output, masked by the umask.
const DIR_MODE: u32 = 0o777;
const FILE_MODE: u32 = 0o666;

/// Temporary directory next to a target; deleted on drop.
#[derive(Debug)]
pub(crate) struct SiblingDir {
    dir: TempDir,
    // Dropped after the directory.
    _lock: Option<File>,
}

impl SiblingDir {
    pub(crate) fn new(target: &Target) -> io::Result<Self> {
        let prefix = target.prefix();
        loop {
            let dir = builder(&prefix, DIR_MODE).tempdir_in(&target.parent)?;
            // Only Unix opens directories as files.
            if cfg!(not(unix)) {
                return Ok(Self { dir, _lock: None });
            }
            let opened = match File::open(dir.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if lock(&opened, dir.path())? {
                return Ok(Self { dir, _lock: Some(opened) });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves what is at the path.
    pub(crate) fn keep(self) {
        let _ = self.dir.keep();
    }
}

/// Temporary file next to a target; deleted on drop.
pub(crate) fn sibling_file(target: &Target) -> io::Result<NamedTempFile> {
    let prefix = target.prefix();
    loop {
        let file = builder(&prefix, FILE_MODE).tempfile_in(&target.parent)?;
        if lock(file.as_file(), file.path())? {
            return Ok(file);
        }
    }
}

/// Locks a new sibling. Returns false if [`sweep`](crate::sweep::sweep) of another process took it for a dead one.
fn lock(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => fs::exists(path),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Where files cannot be locked, nothing is swept.
        Err(TryLockError::Error(_)) => Ok(true),
    }
}

/// Builder of temporary files and directories with this name prefix.
fn builder(prefix: &OsStr, mode: u32) -> Builder<'_, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix).rand_bytes(N_RANDOM);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The library's default is private to the user.
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

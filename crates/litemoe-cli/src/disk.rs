//! Free space, and whether a directory can be written to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::output;

/// Free bytes of the file system of a directory.
#[cfg(unix)]
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Checks that `dir` is a directory that can be written to, or could be created. Returns the directory that is there:
/// itself or the nearest above it.
pub(crate) fn expect_writable(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut nearest = dir.components().as_path(); // a trailing slash would follow a link
    loop {
        if nearest.as_os_str().is_empty() {
            nearest = Path::new(".");
        }
        match fs::metadata(nearest) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => bail!(
                "cannot create the folder {}: {} is not a directory",
                dir.display(),
                nearest.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if nearest.is_symlink() {
                    bail!(
                        "cannot create the folder {}: {} is a link to nothing",
                        dir.display(),
                        nearest.display()
                    );
                }
            }
            // Below a file.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", nearest.display()));
            }
        }
        match nearest.parent() {
            Some(parent) => nearest = parent,
            None => bail!("cannot create the folder {}", dir.display()),
        }
    }
    // Removed at once; it tells more than permissions, which a read-only file system and the superuser do not respect.
    tempfile::tempfile_in(nearest)
        .with_context(|| format!("cannot write to the folder {}", nearest.display()))?;
    Ok(nearest.to_owned())
}

/// Checks that an output of this size fits the disk, and returns the disk's free bytes; the parent directory may not exist
/// yet.
pub(crate) fn expect_room(out: &Path, bytes: u64) -> anyhow::Result<u64> {
    let parent = out.ancestors().skip(1).find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    let free = free_bytes(parent).with_context(|| format!("cannot read {}", parent.display()))?;
    if free >= bytes {
        return Ok(free);
    }
    bail!(
        "{} needs {}, but its disk has {} left",
        out.display(),
        output::bytes(bytes),
        output::bytes(free)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_has_room() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("a/b/model");
        assert!(expect_room(&out, 1).is_ok());
        if cfg!(unix) {
            let error = expect_room(&out, u64::MAX).expect_err("too much").to_string();
            assert!(error.contains("a/b/model needs"), "{error}");
        }
        assert!(expect_room(Path::new("model"), 1).is_ok());
    }
}

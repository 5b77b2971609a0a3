use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Random characters at the end of a temporary name.
pub(crate) const N_RANDOM: usize = 6;

/// Path of an output: a name in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) parent: PathBuf,
    name: OsString,
}

impl Target {
    /// Splits a path; a trailing slash is ignored.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| {
            let message = format!("{} does not name a file or directory", path.display());
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self { parent: parent.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Path of the lock file, `.name.litemoe-lock`.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.parent.join(self.hidden(".litemoe-lock"))
    }

    /// Prefix of temporary names, `.name.litemoe-`.
    pub(crate) fn prefix(&self) -> OsString {
        self.hidden(".litemoe-")
    }

    /// Whether a name is a temporary one of this target.
    pub(crate) fn has_sibling(&self, name: &OsStr) -> bool {
        let prefix = self.prefix();
        let random = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        random.is_some_and(|random| {
            random.len() == N_RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
        })
    }

    fn hidden(&self, suffix: &str) -> OsString {
        [OsStr::new("."), &self.name, OsStr::new(suffix)].into_iter().collect()
    }
}

/// Checks whether [`StagedDir::new`](crate::StagedDir::new) would accept `target`, before any work is done.
///
/// # Errors
/// As [`StagedDir::new`](crate::StagedDir::new).
pub fn check_target(target: &Path, is_own: impl FnOnce(&Path) -> bool) -> io::Result<()> {
    // Without a trailing slash, which would follow a link.
    let path = Target::of(target)?.path();
    match kind(&path)? {
        None => return Ok(()),
        Some(kind) if kind.is_dir() => {}
        Some(kind) if kind.is_symlink() => return Err(is_link(target)),
        Some(_) => {
            let message = format!("{} exists and is not a directory", target.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
        }
    }
    if fs::read_dir(&path)?.next().is_none() || is_own(&path) {
        return Ok(());
    }
    let message =
        "it is there and holds what this program did not write: remove it, or name another folder";
    Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
}

/// Checks whether [`write_file`](crate::write_file) would accept `target`, before any work is done.
///
/// # Errors
/// As [`write_file`](crate::write_file).
pub fn check_target_file(target: &Path) -> io::Result<()> {
    let path = Target::of(target)?.path();
    match kind(&path)? {
        None => Ok(()),
        Some(kind) if kind.is_file() => Ok(()),
        Some(kind) if kind.is_symlink() => Err(is_link(target)),
        Some(kind) if kind.is_dir() => {
            let message = format!("{} is a directory", target.display());
            Err(io::Error::new(io::ErrorKind::IsADirectory, message))
        }
        Some(_) => {
            let message = format!("{} exists and is not a regular file", target.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

/// Whether every entry of a directory is a file with one of these names.
pub fn holds_only(dir: &Path, names: &[&str]) -> bool {
    let known = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_file())
                && names.iter().any(|name| entry.file_name() == *name)
        })
    };
    fs::read_dir(dir).is_ok_and(|mut entries| entries.all(known))
}

/// Type of what is at a path, without following links; `None` if there is nothing.
fn kind(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_link(target: &Path) -> io::Error {
    let message = format!(
        "{} is a link, which is not replaced: remove it, or name where it leads",
        target.display()
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

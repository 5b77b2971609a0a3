use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

/// Staged directory: written next to its target, fsynced, then renamed to the target by [`commit`](Self::commit).
///
/// If dropped before `commit`, it is deleted and the target is unchanged.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    staging: TempDir,
    room: Room,
    /// First write error of any file; `commit` returns it even if the writer ignored it.
    failure: Option<io::Error>,
}

impl StagedDir {
    /// Creates a temporary directory in the target's parent, and the parent if it does not exist. An existing target is
    /// replaced if it is empty, or if `is_own` returns true: it is an earlier artefact of the same kind, with nothing
    /// else inside.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the target is neither,
    /// [`NotADirectory`](io::ErrorKind::NotADirectory) if it is not a directory, and I/O errors.
    pub fn new(target: &Path, is_own: impl FnOnce(&Path) -> bool) -> io::Result<Self> {
        check_target(target, is_own)?;
        Self::with_room(target, Room::unlimited())
    }

    /// For tests: replaces any existing directory; writing more than `max_bytes` in total fails with
    /// [`StorageFull`](io::ErrorKind::StorageFull), as on a full disk.
    pub fn limited(target: &Path, max_bytes: u64) -> io::Result<Self> {
        Self::with_room(target, Room::of(max_bytes))
    }

    fn with_room(target: &Path, room: Room) -> io::Result<Self> {
        let staging = builder(&prefix_of(target)?, 0o777).tempdir_in(parent_of(target)?)?;
        Ok(Self { target: target.to_owned(), staging, room, failure: None })
    }

    /// Path of the temporary directory before the commit, for reading files back.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Creates a file in the directory. Only one file can be open at a time.
    pub fn file(&mut self, name: impl AsRef<Path>) -> io::Result<StagedFile<'_>> {
        let file = File::create_new(self.staging.path().join(name))?;
        Ok(StagedFile { file: BufWriter::new(file), dir: self })
    }

    /// Renames the directory to its target, then deletes the directory it replaces.
    ///
    /// # Errors
    /// When any write to any file failed, even if the writer ignored the error, or when renaming fails; the target is
    /// then unchanged.
    pub fn commit(self) -> io::Result<()> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        sync_dir(self.staging.path())?;
        let old = builder(&prefix_of(&self.target)?, 0o700).tempdir_in(parent_of(&self.target)?)?;
        let aside = old.path().join("old");
        let replaces = move_aside(&self.target, &aside)?;
        if let Err(error) = fs::rename(self.staging.path(), &self.target) {
            if replaces {
                fs::rename(&aside, &self.target)?;
            }
            return Err(error);
        }
        // Already renamed: the guard has nothing to delete.
        let _ = self.staging.keep();
        sync_dir(&parent_of(&self.target)?)
    }
}

/// Buffered file of a [`StagedDir`]; flushed and fsynced on drop.
#[derive(Debug)]
pub struct StagedFile<'a> {
    file: BufWriter<File>,
    dir: &'a mut StagedDir,
}

impl StagedFile<'_> {
    fn remember<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.dir.failure.get_or_insert_with(|| io::Error::new(error.kind(), error.to_string()));
        }
        result
    }
}

impl Write for StagedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.dir.room.write(&mut self.file, bytes);
        self.remember(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.remember(flushed)
    }
}

impl Drop for StagedFile<'_> {
    fn drop(&mut self) {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        // Reported by `commit`.
        let _ = self.remember(synced);
    }
}

/// Atomic file write: writes a temporary file next to the target, fsyncs it, and renames it to the target.
///
/// # Errors
/// Those of `write`, and I/O errors. The target is then unchanged and the temporary file is deleted.
pub fn write_file(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    write_with_room(target, Room::unlimited(), write)
}

/// As [`write_file`], but writing more than `max_bytes` fails with [`StorageFull`](io::ErrorKind::StorageFull), as on a
/// full disk.
pub fn write_file_limited(
    target: &Path,
    max_bytes: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    write_with_room(target, Room::of(max_bytes), write)
}

fn write_with_room(
    target: &Path,
    room: Room,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let parent = parent_of(target)?;
    let staging = builder(&prefix_of(target)?, 0o666).tempfile_in(&parent)?;
    let mut file = Roomed { file: BufWriter::new(staging), room, failure: None };
    write(&mut file)?;
    let staging = file.finish()?;
    staging.as_file().sync_all()?;
    staging.persist(target)?;
    sync_dir(&parent)
}

/// Size-limited file that records a write error its writer ignored.
struct Roomed {
    file: BufWriter<NamedTempFile>,
    room: Room,
    failure: Option<io::ErrorKind>,
}

impl Roomed {
    fn finish(self) -> io::Result<NamedTempFile> {
        match self.failure {
            Some(kind) => Err(kind.into()),
            None => self.file.into_inner().map_err(io::IntoInnerError::into_error),
        }
    }
}

impl Write for Roomed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.room.write(&mut self.file, bytes);
        written.inspect_err(|error| self.failure = Some(error.kind()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Remaining bytes that may be written.
#[derive(Debug)]
struct Room(u64);

impl Room {
    const fn unlimited() -> Self {
        Self(u64::MAX)
    }

    const fn of(max_bytes: u64) -> Self {
        Self(max_bytes)
    }

    fn write(&mut self, file: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        let fitting = usize::try_from(self.0).map_or(bytes.len(), |room| room.min(bytes.len()));
        if fitting == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = file.write(&bytes[..fitting])?;
        self.0 -= written as u64;
        Ok(written)
    }
}

/// Builder of temporary files and directories with this name prefix.
fn builder(prefix: &OsStr, mode: u32) -> Builder<'_, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Ordinary permissions, masked by the umask; the library's default is private to the user.
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Prefix of the target's temporary names, `.name.`.
fn prefix_of(target: &Path) -> io::Result<OsString> {
    let name = target.file_name().ok_or_else(|| {
        let message = format!("{} does not name a file or directory", target.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    Ok([OsStr::new("."), name, OsStr::new(".")].into_iter().collect())
}

/// The target's parent directory, created if it does not exist.
fn parent_of(target: &Path) -> io::Result<PathBuf> {
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)?;
    Ok(parent.to_owned())
}

/// Checks whether [`StagedDir::new`] would accept `target`, before any work is done.
///
/// # Errors
/// As [`StagedDir::new`].
pub fn check_target(target: &Path, is_own: impl FnOnce(&Path) -> bool) -> io::Result<()> {
    let mut entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if entries.next().is_none() || is_own(target) {
        return Ok(());
    }
    let message =
        "it is there and holds what this program did not write: remove it, or name another folder";
    Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
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

/// Moves an existing target directory to `aside`; returns whether there was one.
fn move_aside(target: &Path, aside: &Path) -> io::Result<bool> {
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => fs::rename(target, aside).map(|()| true),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} exists and is not a directory", target.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Fsyncs a directory, which makes its entries durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    // Only Unix opens directories as files.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

/// A directory written beside its target and renamed over it when everything is on disk.
///
/// Dropped without [`commit`](Self::commit), it removes itself and the target stays as it was.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    staging: TempDir,
    room: Room,
    /// The first failure of any file: a writer may swallow it, `commit` does not.
    failure: Option<io::Error>,
}

impl StagedDir {
    /// Opens a temporary directory in the target's parent, which is created if need be. A directory that is there is
    /// replaced if it is empty, or if `is_own` says that it is an earlier artefact of the same kind and nothing else.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) when it is neither,
    /// [`NotADirectory`](io::ErrorKind::NotADirectory) when something else stands there, and those of the disk.
    pub fn new(target: &Path, is_own: impl FnOnce(&Path) -> bool) -> io::Result<Self> {
        check_target(target, is_own)?;
        Self::with_room(target, Room::unlimited())
    }

    /// Replaces whatever directory is there, and writing more than `max_bytes` over all files fails with
    /// [`StorageFull`](io::ErrorKind::StorageFull), as on a full disk: for tests.
    pub fn limited(target: &Path, max_bytes: u64) -> io::Result<Self> {
        Self::with_room(target, Room::of(max_bytes))
    }

    fn with_room(target: &Path, room: Room) -> io::Result<Self> {
        let staging = builder(&prefix_of(target)?, 0o777).tempdir_in(parent_of(target)?)?;
        Ok(Self { target: target.to_owned(), staging, room, failure: None })
    }

    /// Where the directory is until it is committed: for reading back what was written.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Creates a file in the directory; one is open at a time.
    pub fn file(&mut self, name: impl AsRef<Path>) -> io::Result<StagedFile<'_>> {
        let file = File::create_new(self.staging.path().join(name))?;
        Ok(StagedFile { file: BufWriter::new(file), dir: self })
    }

    /// Makes the directory the target; a directory that was there is deleted afterwards.
    ///
    /// # Errors
    /// When any write to any file failed, even one that the writer ignored, or when the renaming
    /// fails: the target is then as it was.
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
        // Renamed away: there is nothing left for the guard to remove.
        let _ = self.staging.keep();
        sync_dir(&parent_of(&self.target)?)
    }
}

/// A buffered file of a [`StagedDir`], on disk when it is dropped.
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

/// Writes one file beside its target and renames it over the target when it is on disk.
///
/// # Errors
/// Those of `write` and of the disk; the target is then as it was and nothing is left beside it.
pub fn write_file(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    write_with_room(target, Room::unlimited(), write)
}

/// As [`write_file`], but writing more than `max_bytes` fails with
/// [`StorageFull`](io::ErrorKind::StorageFull), as on a full disk.
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

/// A file of limited room that remembers a failure its writer ignored.
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

/// Bytes that may still be written.
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

/// Opens a temporary entry named after the target.
fn builder(prefix: &OsStr, mode: u32) -> Builder<'_, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Ordinary output, cut by the umask; the library's default is private to the user.
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// `.name.`, the beginning of the temporary names of a target.
fn prefix_of(target: &Path) -> io::Result<OsString> {
    let name = target.file_name().ok_or_else(|| {
        let message = format!("{} does not name a file or directory", target.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    Ok([OsStr::new("."), name, OsStr::new(".")].into_iter().collect())
}

/// The target's parent, created if need be.
fn parent_of(target: &Path) -> io::Result<PathBuf> {
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)?;
    Ok(parent.to_owned())
}

/// Whether an artefact may become `target`, before any work is done for it: as [`StagedDir::new`].
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

/// Whether every entry of a directory is a file of one of these names.
pub fn holds_only(dir: &Path, names: &[&str]) -> bool {
    let known = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_file())
                && names.iter().any(|name| entry.file_name() == *name)
        })
    };
    fs::read_dir(dir).is_ok_and(|mut entries| entries.all(known))
}

/// Moves a directory that is in the way; whether there was one.
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

/// Makes a directory's entries durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    // Other systems do not open directories as files.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

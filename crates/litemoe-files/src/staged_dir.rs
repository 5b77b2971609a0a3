use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::replace::{replace, sync_dir};
use crate::room::Room;
use crate::sibling::SiblingDir;
use crate::sweep::sweep;
use crate::target::{Target, check_target};

/// Staged directory: written next to its target, fsynced, then renamed to the target by [`commit`](Self::commit).
///
/// If dropped before `commit`, it is deleted and the target is unchanged. If the process ends before, the next one that
/// stages the same target deletes it.
pub struct StagedDir {
    target: Target,
    is_own: Box<dyn Fn(&Path) -> bool + Send + Sync>,
    staging: SiblingDir,
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
    /// [`NotADirectory`](io::ErrorKind::NotADirectory) if it is not a directory,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is a link, and I/O errors.
    pub fn new(
        target: &Path,
        is_own: impl Fn(&Path) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::with_room(target, Box::new(is_own), Room::unlimited())
    }

    /// For tests: replaces any existing directory; writing more than `max_bytes` in total fails with
    /// [`StorageFull`](io::ErrorKind::StorageFull), as on a full disk.
    pub fn limited(target: &Path, max_bytes: u64) -> io::Result<Self> {
        Self::with_room(target, Box::new(|_| true), Room::of(max_bytes))
    }

    fn with_room(
        target: &Path,
        is_own: Box<dyn Fn(&Path) -> bool + Send + Sync>,
        room: Room,
    ) -> io::Result<Self> {
        let target = Target::of(target)?;
        fs::create_dir_all(&target.parent)?;
        // A target that is moved back is checked, too.
        sweep(&target)?;
        check_target(&target.path(), &is_own)?;
        let staging = SiblingDir::new(&target)?;
        Ok(Self { target, is_own, staging, room, failure: None })
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

    /// Renames the directory to its target, then deletes the directory it replaces. Where the system can exchange two
    /// directories, the target exists at any time.
    ///
    /// # Errors
    /// When any write to any file failed, even if the writer ignored the error, when the target may not be replaced any
    /// more, or when renaming fails; the target is then unchanged.
    pub fn commit(self) -> io::Result<()> {
        let Self { target, is_own, staging, failure, .. } = self;
        if let Some(failure) = failure {
            return Err(failure);
        }
        sync_dir(staging.path())?;
        check_target(&target.path(), is_own)?;
        replace(staging, &target)
    }
}

impl fmt::Debug for StagedDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, staging, failure, .. } = self;
        let mut dir = f.debug_struct("StagedDir");
        dir.field("target", target).field("staging", staging).field("failure", failure);
        dir.finish_non_exhaustive()
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

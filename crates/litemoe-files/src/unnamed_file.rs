use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::sibling::sibling_file;
use crate::sweep::{self, sweep};
use crate::target::{Target, check_target_file};

/// In temporary names, in place of the target's name.
const NAME: &str = "unnamed";

/// Staged file whose name is known only when it is whole, such as one that is named by the hash of its content: written
/// to a temporary file in its directory, and deleted on drop.
#[derive(Debug)]
pub struct UnnamedFile {
    file: BufWriter<NamedTempFile>,
    dir: PathBuf,
}

/// An [`UnnamedFile`] that is whole and fsynced; deleted on drop.
#[derive(Debug)]
pub struct SyncedFile {
    file: NamedTempFile,
    dir: PathBuf,
}

impl UnnamedFile {
    /// Creates a temporary file in a directory that exists. Unlike [`write_file`](crate::write_file), it removes nothing
    /// that dead processes left: that is [`remove_unnamed`]'s.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let file = BufWriter::new(sibling_file(&target(dir)?)?);
        Ok(Self { file, dir: dir.to_owned() })
    }

    /// Flushes and fsyncs the file.
    pub fn sync(self) -> io::Result<SyncedFile> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        Ok(SyncedFile { file, dir: self.dir })
    }
}

impl Write for UnnamedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SyncedFile {
    /// Renames the file to a name in its directory; a regular file of that name is replaced. The name is durable after
    /// [`sync_dir`](crate::sync_dir).
    ///
    /// # Errors
    /// If something else than a regular file has the name, and I/O errors. The file is then deleted.
    pub fn rename(self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        check_target_file(&path)?;
        self.file.persist(path)?;
        Ok(())
    }
}

/// Removes the [`UnnamedFile`]s of a directory whose processes are dead.
///
/// # Errors
/// When the directory cannot be read.
pub fn remove_unnamed(dir: &Path) -> io::Result<()> {
    fs::read_dir(dir)?;
    sweep(&target(dir)?)
}

/// Names of the [`UnnamedFile`]s of a directory whose processes are dead, which [`remove_unnamed`] removes.
///
/// # Errors
/// When the directory cannot be read.
pub fn dead_unnamed(dir: &Path) -> io::Result<Vec<String>> {
    let target = target(dir)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if target.has_sibling(&name) && sweep::lock_dead(&entry).is_some() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Whether a name is one of an [`UnnamedFile`].
pub fn is_unnamed(dir: &Path, name: &std::ffi::OsStr) -> bool {
    target(dir).is_ok_and(|target| target.has_sibling(name))
}

fn target(dir: &Path) -> io::Result<Target> {
    Target::of(&dir.join(NAME))
}

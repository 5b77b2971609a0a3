use std::fs::{self, DirBuilder};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use litemoe_files::{remove_staged, remove_unnamed, sync_dir};

use crate::RegistryError;
use crate::blobs::Blobs;
use crate::clock::{Clock, UnixTime};
use crate::database::Database;

/// Name of the database in a registry's directory.
pub(crate) const DATABASE: &str = "registry.db";

/// Target of temporary folders of adapters in a registry's directory, which never exists.
pub(crate) const STAGED: &str = "adapter";

/// Name of the folder of contents.
pub(crate) const CONTENTS: &str = "files";

/// Registry of the apps of a model service: keys, limits, usage, adapters, uploaded files and jobs, in a directory.
///
/// A clone is the same registry. Its methods may wait for the disk, and for up to 10 seconds for other processes that
/// write to the registry ([`Busy`](RegistryError::Busy)). What a method changed is on the disk when it returns.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(crate) database: Arc<Database>,
    pub(crate) blobs: Blobs,
    pub(crate) clock: Clock,
}

impl Registry {
    /// Opens the registry in a directory, brings its database to the current format, and removes temporary files that
    /// dead processes left.
    ///
    /// # Errors
    /// [`NoRegistry`](RegistryError::NoRegistry) if there is none, [`Foreign`](RegistryError::Foreign) and
    /// [`Newer`](RegistryError::Newer) if it is not this version's, and those of reading and writing.
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let registry = Self::unswept(dir)?;
        let contents = dir.join(CONTENTS);
        remove_unnamed(&contents).map_err(|reason| RegistryError::unwritten(&contents, reason))?;
        remove_staged(&dir.join(STAGED)).map_err(|reason| RegistryError::unwritten(dir, reason))?;
        Ok(registry)
    }

    /// Opens the registry in a directory, or creates one if the directory is empty or does not exist. Only its user can
    /// read a new directory.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Foreign`](RegistryError::Foreign) if the directory holds anything else.
    pub fn create(dir: &Path) -> Result<Self, RegistryError> {
        let file = dir.join(DATABASE);
        if !exists(&file)? {
            prepare(dir).map_err(|reason| RegistryError::unwritten(dir, reason))?;
            expect_empty(dir)?;
            drop(Database::open(&file, true)?);
            sync_dir(dir).map_err(|reason| RegistryError::unwritten(dir, reason))?;
        }
        Self::open(dir)
    }

    /// The registry with another source of the time.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    /// Directory of the registry.
    pub fn dir(&self) -> &Path {
        self.blobs.dir().parent().unwrap_or(Path::new(""))
    }

    /// Opens a registry and leaves temporary files.
    pub(crate) fn unswept(dir: &Path) -> Result<Self, RegistryError> {
        let file = dir.join(DATABASE);
        if !exists(&file)? {
            return Err(RegistryError::NoRegistry { dir: dir.to_owned() });
        }
        let database = Arc::new(Database::open(&file, false)?);
        let blobs = Blobs::new(dir.join(CONTENTS));
        Ok(Self { database, blobs, clock: Clock::new(SystemTime::now) })
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }
}

fn exists(path: &Path) -> Result<bool, RegistryError> {
    fs::exists(path).map_err(|reason| RegistryError::io(path, reason))
}

/// Creates the directory and its folder.
fn prepare(dir: &Path) -> io::Result<()> {
    if !fs::exists(dir)? {
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        make_private(dir)?;
    }
    make_private(&dir.join(CONTENTS))
}

/// Creates a directory for its user alone, unless there is one.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        created => created,
    }
}

/// Checks that a directory has nothing but what an interrupted creation left.
fn expect_empty(dir: &Path) -> Result<(), RegistryError> {
    let read = |reason| RegistryError::io(dir, reason);
    for entry in fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let is_own =
            name == CONTENTS || name.to_str().is_some_and(|name| name.starts_with(DATABASE));
        if !is_own {
            return Err(RegistryError::Foreign { path: dir.to_owned() });
        }
    }
    Ok(())
}

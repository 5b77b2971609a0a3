//! Folders of jobs, in the registry's directory.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use litemoe_registry::Worker;

/// Folder of a job's files. It is kept until the job is over, so that an interrupted job goes on where it was.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// The folder of a job, for this user alone; the one of an earlier attempt if there is one.
    pub(super) fn of(worker: &Worker, job: &str) -> anyhow::Result<Self> {
        let dir = std::path::absolute(worker.dir())?.join(job);
        let folder = Self { dir };
        make(&worker.dir())?;
        make(&folder.dir)?;
        // Files that an earlier attempt left.
        remove(&folder.scratch())?;
        make(&folder.scratch())?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes a folder in it, for this user alone.
    pub(super) fn make(&self, name: &str) -> anyhow::Result<()> {
        make(&self.dir.join(name))
    }

    /// Folder for temporary files.
    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join("tmp")
    }
}

/// Removes the folders of jobs that are over.
pub(super) fn sweep(worker: &Worker) -> anyhow::Result<()> {
    let entries = match fs::read_dir(worker.dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", &worker.dir())(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed("read", &worker.dir()))?.file_name());
    }
    if names.is_empty() {
        return Ok(());
    }
    let unfinished = worker.unfinished()?;
    names.retain(|name| !unfinished.iter().any(|id| name == id.as_str()));
    names.iter().try_for_each(|name| remove(&worker.dir().join(name)))
}

fn make(dir: &Path) -> anyhow::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        created => created.map_err(failed("create", dir)),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    let context = format!("cannot {what} {}", path.display());
    move |error| anyhow::Error::new(error).context(context)
}

//! Content-addressed files: each is named by the SHA-256 of its content.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use litemoe_files::{SyncedFile, UnnamedFile, sync_dir};
use sha2::{Digest, Sha256};

use crate::RegistryError;
use crate::sha256_hash::Sha256Hash;

const BUFFER: usize = 64 << 10;

/// Maximum number of looks for a content that is removed while it is opened.
const MAX_LOOKS: usize = 10;

/// Folder of contents.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
}

/// Hash and length of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) sha256: Sha256Hash,
    pub(crate) bytes: u64,
}

/// A content that is being written, as a temporary file; deleted on drop.
#[derive(Debug)]
pub struct Upload {
    file: UnnamedFile,
    dir: PathBuf,
    hash: Sha256,
    bytes: u64,
}

/// A content that is on the disk under a temporary name; deleted on drop.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) content: Content,
    file: SyncedFile,
}

impl Blobs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, sha256: Sha256Hash) -> PathBuf {
        self.dir.join(sha256.to_string())
    }

    pub(crate) fn upload(&self) -> Result<Upload, RegistryError> {
        let file = UnnamedFile::new(&self.dir);
        let file = file.map_err(|reason| RegistryError::unwritten(&self.dir, reason))?;
        Ok(Upload { file, dir: self.dir.clone(), hash: Sha256::new(), bytes: 0 })
    }

    /// Gives contents their names. Inside a transaction that writes, so that nothing removes them before they are
    /// referred to.
    pub(crate) fn keep(&self, staged: Vec<Staged>) -> Result<(), RegistryError> {
        for Staged { content, file } in staged {
            // A content that is there already is replaced: its file may be damaged.
            let renamed = file.rename(&content.sha256.to_string());
            let path = self.path(content.sha256);
            renamed.map_err(|reason| RegistryError::unwritten(&path, reason))?;
        }
        sync_dir(&self.dir).map_err(|reason| RegistryError::unwritten(&self.dir, reason))
    }

    /// Opens a content, which stays readable also if it is removed.
    pub(crate) fn open(&self, sha256: Sha256Hash) -> Result<File, RegistryError> {
        let path = self.path(sha256);
        File::open(&path).map_err(|reason| match reason.kind() {
            ErrorKind::NotFound => RegistryError::MissingContent { sha256 },
            _ => RegistryError::io(&path, reason),
        })
    }

    /// Opens what `look` finds in the database, and looks again if a content was removed in between: the database then
    /// refers to another one, or to none.
    pub(crate) fn open_found<T, O>(
        &self,
        look: impl Fn() -> Result<T, RegistryError>,
        open: impl Fn(&Self, &T) -> Result<O, RegistryError>,
    ) -> Result<(T, O), RegistryError> {
        let mut n_looks = 0;
        loop {
            n_looks += 1;
            let found = look()?;
            match open(self, &found) {
                Ok(opened) => return Ok((found, opened)),
                Err(RegistryError::MissingContent { .. }) if n_looks < MAX_LOOKS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a content; false if it is not there.
    pub(crate) fn remove(&self, sha256: Sha256Hash) -> Result<bool, RegistryError> {
        let path = self.path(sha256);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(reason) if reason.kind() == ErrorKind::NotFound => Ok(false),
            Err(reason) => Err(RegistryError::unwritten(&path, reason)),
        }
    }
}

impl Upload {
    /// Number of bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn finish(self) -> Result<Staged, RegistryError> {
        let Self { file, dir, hash, bytes } = self;
        let file = file.sync().map_err(|reason| RegistryError::unwritten(&dir, reason))?;
        let content = Content { sha256: Sha256Hash::new(hash.finalize().into()), bytes };
        Ok(Staged { content, file })
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies a content, and returns its hash and length.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<Content, CopyError> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
    loop {
        let n_read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n_read) => n_read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        hash.update(&buffer[..n_read]);
        to.write_all(&buffer[..n_read]).map_err(CopyError::Write)?;
        bytes += n_read as u64;
    }
    to.flush().map_err(CopyError::Write)?;
    Ok(Content { sha256: Sha256Hash::new(hash.finalize().into()), bytes })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_content_that_is_removed_in_between_is_looked_for_again_a_few_times() {
        let dir = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::new(dir.path().to_owned());
        let mut upload = blobs.upload().expect("an upload");
        upload.write_all(b"rows").expect("written");
        let staged = upload.finish().expect("on the disk");
        let (there, gone) = (staged.content.sha256, Sha256Hash::new([0; 32]));
        blobs.keep(vec![staged]).expect("kept");
        let n_looks = Cell::new(0);
        let open = |n_gone: usize| {
            n_looks.set(0);
            let look = || {
                n_looks.set(n_looks.get() + 1);
                Ok(if n_looks.get() > n_gone { there } else { gone })
            };
            blobs.open_found(look, |blobs, sha256| blobs.open(*sha256)).map(|(found, _)| found)
        };
        assert_eq!((open(2).expect("opened"), n_looks.get()), (there, 3));
        let error = open(usize::MAX).expect_err("it is missing");
        assert!(matches!(error, RegistryError::MissingContent { sha256 } if sha256 == gone));
        assert_eq!(n_looks.get(), MAX_LOOKS);
    }
}

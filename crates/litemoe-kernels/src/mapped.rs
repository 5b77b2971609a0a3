#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

/// A file mapped into memory, read only; clones share the map.
#[derive(Debug, Clone)]
pub struct MappedFile {
    map: Arc<Mmap>,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// The file must not be shortened or written to while it is mapped: artefacts are replaced by
    /// renaming a new file over the old one, never changed in place.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read only and private to this type, which hands out `&[u8]` bound to its
        // own lifetime. What remains is that no other process truncates the file meanwhile, which
        // no program can prevent; the doc above states it.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Arc::new(map) })
    }

    /// The file's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

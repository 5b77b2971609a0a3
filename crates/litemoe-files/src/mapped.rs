#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
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

    /// Lets the pages that hold these bytes leave memory; reading them again brings them back from the file.
    ///
    /// Advice to the operating system: without effect where it has no such call.
    ///
    /// # Panics
    /// When the range reaches past the file's end.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.end <= self.map.len(), "{range:?} of {} bytes", self.map.len());
        #[cfg(unix)]
        if !range.is_empty() {
            // SAFETY: the map is of a file and never written to, so a page that comes back holds the
            // bytes it held before, and slices of it stay true.
            let advised = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
            drop(advised); // advice not taken costs memory, nothing else
        }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

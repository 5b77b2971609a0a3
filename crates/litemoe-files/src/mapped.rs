#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

/// Read-only memory map of a file; clones share the map.
#[derive(Debug, Clone)]
pub struct MappedFile {
    map: Arc<Mmap>,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// The file must not be truncated or written to while it is mapped: replace it by renaming a new file over it,
    /// never modify it in place.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read only and private to this type, which returns `&[u8]` bound to its own lifetime.
        // Another process may still truncate the file, which no program can prevent; the doc above states the
        // requirement.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Arc::new(map) })
    }

    /// The file's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets the operating system evict the pages of a byte range; later reads load them from the file again. Advisory:
    /// no effect on systems without such a call.
    ///
    /// # Panics
    /// When the range extends past the end of the file.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.end <= self.map.len(), "{range:?} of {} bytes", self.map.len());
        #[cfg(unix)]
        if !range.is_empty() {
            // SAFETY: the map is of a file and never written to, so a reloaded page holds the same bytes and existing
            // slices stay valid.
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

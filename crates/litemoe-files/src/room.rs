use std::io::{self, Write};

/// Remaining bytes that may be written.
#[derive(Debug)]
pub(crate) struct Room(u64);

impl Room {
    pub(crate) const fn unlimited() -> Self {
        Self(u64::MAX)
    }

    pub(crate) const fn of(max_bytes: u64) -> Self {
        Self(max_bytes)
    }

    pub(crate) fn write(&mut self, file: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        let fitting = usize::try_from(self.0).map_or(bytes.len(), |room| room.min(bytes.len()));
        if fitting == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = file.write(&bytes[..fitting])?;
        self.0 -= written as u64;
        Ok(written)
    }
}

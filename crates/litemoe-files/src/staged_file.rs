use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::replace::sync_dir;
use crate::room::Room;
use crate::sibling::sibling_file;
use crate::sweep::sweep;
use crate::target::{Target, check_target_file};

/// Atomic file write: writes a temporary file next to the target, fsyncs it, and renames it to the target. The target's
/// parent is created if it does not exist, and what dead processes left of the same target is removed.
///
/// # Errors
/// If the target exists and is not a regular file, such as a link or a device; those of `write`, and I/O errors. The
/// target is then unchanged and the temporary file is deleted.
pub fn write_file(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    write_with_room(target, Room::unlimited(), write)
}

/// As [`write_file`], but writing more than `max_bytes` fails with [`StorageFull`](io::ErrorKind::StorageFull), as on a
/// full disk.
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
    check_target_file(target)?;
    let target = Target::of(target)?;
    fs::create_dir_all(&target.parent)?;
    sweep(&target)?;
    let mut file = Roomed { file: BufWriter::new(sibling_file(&target)?), room, failure: None };
    write(&mut file)?;
    let staging = file.finish()?;
    staging.as_file().sync_all()?;
    let path = target.path();
    check_target_file(&path)?;
    staging.persist(path)?;
    sync_dir(&target.parent)
}

/// Size-limited file that records a write error its writer ignored.
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

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Minimum age of a file's last change: a younger file may change again without a new modification time.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// What changes when a file changes: name, size, modification time, and on Unix device, inode and change time, which a
/// copy with an old modification time does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) name: PathBuf,
    bytes: u64,
    modified: SystemTime,
    unix: [i64; 4],
}

impl Stamp {
    /// The stamp of a file; `None` if there is none. Links are followed.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let (bytes, modified) = (metadata.len(), metadata.modified().ok()?);
        #[cfg(unix)]
        let unix = {
            use std::os::unix::fs::MetadataExt;
            [metadata.dev() as i64, metadata.ino() as i64, metadata.ctime(), metadata.ctime_nsec()]
        };
        #[cfg(not(unix))]
        let unix = [0; 4];
        Some(Self { name: path.file_name()?.into(), bytes, modified, unix })
    }

    /// Whether size, modification time and, on Unix, device and inode are the same. Other changes, such as of the file's
    /// permissions or number of links, leave its contents as they are.
    pub(crate) fn has_contents_of(&self, other: &Self) -> bool {
        let contents = |stamp: &Self| (stamp.bytes, stamp.modified, stamp.unix[0], stamp.unix[1]);
        contents(self) == contents(other)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(self.unix[2].max(0) as u64);
        let is_old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > SETTLED);
        is_old(self.modified) && is_old(changed)
    }
}

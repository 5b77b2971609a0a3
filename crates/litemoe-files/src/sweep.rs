use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;

use crate::replace::ASIDE;
use crate::target::Target;

/// Removes the staged directories and files that dead processes left of a target, which the next one that stages it would
/// do too.
///
/// # Errors
/// When a target that one of them had moved aside cannot be moved back.
pub fn remove_staged(target: &Path) -> io::Result<()> {
    sweep(&Target::of(target)?)
}

/// Removes the temporary siblings that dead processes left of this target. A target that one of them had moved aside is
/// moved back. Siblings that cannot be locked or removed are left.
///
/// # Errors
/// When a target cannot be moved back.
pub(crate) fn sweep(target: &Target) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(&target.parent) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| target.has_sibling(&entry.file_name())) {
        let Some(_dead) = lock_dead(&entry) else { continue };
        let path = entry.path();
        let _ = if path.is_dir() {
            move_back(&path.join(ASIDE), &target.path())?;
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }
    Ok(())
}

/// Locks a sibling; `None` if its process lives, or it is neither file nor directory.
pub(crate) fn lock_dead(entry: &DirEntry) -> Option<File> {
    let kind = entry.file_type().ok()?;
    // Only Unix opens directories as files.
    if !(kind.is_file() || cfg!(unix) && kind.is_dir()) {
        return None;
    }
    let file = File::open(entry.path()).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

fn move_back(aside: &Path, target: &Path) -> io::Result<()> {
    if fs::exists(aside)? && !fs::exists(target)? { fs::rename(aside, target) } else { Ok(()) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::sibling::SiblingDir;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
    }

    #[test]
    fn a_target_whose_replacement_was_cut_short_is_moved_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = Target::of(&dir.path().join("proxy")).expect("a name");
        fs::create_dir(target.path()).expect("a directory");
        fs::write(target.path().join("old"), "old").expect("a file");
        let (staging, aside) = (SiblingDir::new(&target), SiblingDir::new(&target));
        let (staging, aside) = (staging.expect("a directory"), aside.expect("a directory"));
        fs::rename(target.path(), aside.path().join(ASIDE)).expect("moved");
        sweep(&target).expect("nothing dead");
        assert_eq!(names(dir.path()).len(), 2, "their process lives");
        aside.keep();
        staging.keep();
        sweep(&target).expect("moved back");
        assert_eq!(names(dir.path()), ["proxy"]);
        assert_eq!(names(&target.path()), ["old"]);
    }
}

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::sibling::SiblingDir;
use crate::target::Target;

/// Name of a target that is moved aside, in a sibling. [`sweep`](crate::sweep::sweep) moves it back.
pub(crate) const ASIDE: &str = ".litemoe-aside";

/// Renames a staged directory to its target, and deletes the directory it replaces: in one exchange where the system
/// can, else by moving the old directory aside.
pub(crate) fn replace(staging: SiblingDir, target: &Target) -> io::Result<()> {
    let path = target.path();
    if !fs::exists(&path)? {
        fs::rename(staging.path(), &path)?;
        staging.keep();
        return sync_dir(&target.parent);
    }
    if exchange(staging.path(), &path)? {
        // The old directory, which `staging` deletes now.
        return sync_dir(&target.parent);
    }
    move_aside(staging, target)
}

/// Exchanges two paths; false if the system cannot.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(x: &Path, y: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;

    match renameat_with(CWD, x, CWD, y, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(error) => {
            let cannot = [Errno::NOSYS, Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP];
            if cannot.contains(&error) { Ok(false) } else { Err(error.into()) }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Replaces the target in two renames.
fn move_aside(staging: SiblingDir, target: &Target) -> io::Result<()> {
    let path = target.path();
    let sibling = SiblingDir::new(target)?;
    let aside = sibling.path().join(ASIDE);
    fs::rename(&path, &aside)?;
    if let Err(error) = fs::rename(staging.path(), &path) {
        if fs::rename(&aside, &path).is_err() {
            // Not deleted: the next run moves it back.
            sibling.keep();
        }
        return Err(error);
    }
    staging.keep();
    sync_dir(&target.parent)
}

/// Fsyncs a directory, which makes its entries durable; does nothing where directories cannot be opened.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    // Only Unix opens directories as files.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that holds `old`, and a staged directory that holds `new`.
    fn scene(dir: &Path) -> (Target, SiblingDir) {
        let target = Target::of(&dir.join("proxy")).expect("a name");
        fs::create_dir(target.path()).expect("a directory");
        fs::write(target.path().join("old"), "old").expect("a file");
        let staging = SiblingDir::new(&target).expect("a directory");
        fs::write(staging.path().join("new"), "new").expect("a file");
        (target, staging)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
    }

    #[test]
    fn both_ways_replace_a_directory() {
        for way in [replace, move_aside] {
            let dir = tempfile::tempdir().expect("a directory");
            let (target, staging) = scene(dir.path());
            way(staging, &target).expect("a replacement");
            assert_eq!(names(dir.path()), ["proxy"]);
            assert_eq!(names(&target.path()), ["new"]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_exchange_leaves_both_directories_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, staging) = scene(dir.path());
        if exchange(staging.path(), &target.path()).expect("an exchange") {
            assert_eq!(names(&target.path()), ["new"]);
            assert_eq!(names(staging.path()), ["old"]);
        }
    }

    #[test]
    fn a_target_that_cannot_be_replaced_is_as_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, staging) = scene(dir.path());
        fs::remove_dir_all(staging.path()).expect("removed");
        move_aside(staging, &target).expect_err("nothing to rename");
        assert_eq!(names(dir.path()), ["proxy"]);
        assert_eq!(names(&target.path()), ["old"]);
    }
}

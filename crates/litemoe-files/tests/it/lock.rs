use std::fs;
use std::io::ErrorKind;

use litemoe_files::TargetLock;
use tempfile::tempdir;

#[test]
fn an_output_is_locked_once() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("new/proxy");
    let lock = TargetLock::new(&target).expect("a lock");
    let error = TargetLock::new(&target).expect_err("a locked output");
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("proxy"), "{error}");
    TargetLock::new(&scene.path().join("new/other")).expect("another output");
    drop(lock);
    TargetLock::new(&target).expect("a lock again");
}

#[cfg(unix)]
#[test]
fn a_lock_leaves_nothing() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("proxy");
    let path = scene.path().join(".proxy.litemoe-lock");
    // What a dead process left.
    fs::write(&path, "").expect("a file");
    let lock = TargetLock::new(&target).expect("a lock");
    assert!(path.exists() && !target.exists());
    drop(lock);
    assert!(fs::read_dir(scene.path()).expect("a directory").next().is_none());
}

#[test]
fn a_file_with_content_is_no_lock_and_is_left() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("proxy");
    let (notes, other) =
        (scene.path().join(".proxy.lock"), scene.path().join(".proxy.litemoe-lock"));
    fs::write(&notes, "notes").expect("a file");
    drop(TargetLock::new(&target).expect("a lock"));
    assert_eq!(fs::read(&notes).expect("a file"), b"notes");

    fs::write(&other, "notes").expect("a file");
    let error = TargetLock::new(&target).expect_err("a file with content");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains(".proxy.litemoe-lock"), "{error}");
    assert_eq!(fs::read(&other).expect("a file"), b"notes");
}

#[cfg(unix)]
#[test]
fn a_lock_removes_no_file_that_came_in_its_place() {
    let scene = tempdir().expect("a directory");
    let (target, path) = (scene.path().join("proxy"), scene.path().join(".proxy.litemoe-lock"));
    let lock = TargetLock::new(&target).expect("a lock");
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "").expect("a file");
    drop(lock);
    assert!(path.exists(), "another file");
    let lock = TargetLock::new(&target).expect("a lock");
    fs::write(&path, "notes").expect("a file");
    drop(lock);
    assert_eq!(fs::read(&path).expect("a file"), b"notes");
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_lock_is_refused() {
    let scene = tempdir().expect("a directory");
    let elsewhere = scene.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, scene.path().join(".proxy.litemoe-lock"))
        .expect("a link");
    let error = TargetLock::new(&scene.path().join("proxy")).expect_err("a link");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!elsewhere.exists());
}

#[test]
fn one_of_many_threads_has_the_lock() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("proxy");
    let held = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let Ok(lock) = TargetLock::new(&target) else { continue };
                    assert_eq!(held.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
}

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
    let path = scene.path().join(".proxy.lock");
    // What a dead process left.
    fs::write(&path, "").expect("a file");
    let lock = TargetLock::new(&target).expect("a lock");
    assert!(path.exists() && !target.exists());
    drop(lock);
    assert!(fs::read_dir(scene.path()).expect("a directory").next().is_none());
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_lock_is_refused() {
    let scene = tempdir().expect("a directory");
    let elsewhere = scene.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, scene.path().join(".proxy.lock")).expect("a link");
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

#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::Path;

use litemoe_files::{StagedDir, write_file};
use tempfile::tempdir;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn what_dead_processes_left_is_removed() {
    let scene = tempdir().expect("a directory");
    let dead = scene.path().join(".proxy.litemoe-a1B2c3");
    for write in [stage, write] {
        fs::create_dir(&dead).expect("a directory");
        fs::write(dead.join("weights"), "half").expect("a file");
        fs::write(scene.path().join(".proxy.litemoe-Zzzzz9"), "half").expect("a file");
        write(&scene.path().join("proxy"));
        assert_eq!(names(scene.path()), ["proxy"]);
        let _ = fs::remove_dir_all(scene.path().join("proxy"));
    }
}

#[test]
fn what_live_processes_write_is_left() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("proxy");
    let mut first = StagedDir::new(&target, |_| true).expect("staging");
    first.file("first").expect("a file").write_all(b"1").expect("written");
    stage(&target);
    assert_eq!(names(&target), ["second"]);
    first.commit().expect("a commit");
    assert_eq!(names(&target), ["first"]);
    assert_eq!(names(scene.path()), ["proxy"]);

    let file = scene.path().join("scores.json");
    write_file(&file, |out| {
        out.write_all(b"first")?;
        write_file(&file, |out| out.write_all(b"second"))
    })
    .expect("written");
    assert_eq!(fs::read(&file).expect("a file"), b"first");
}

#[test]
fn what_has_another_name_is_left() {
    let scene = tempdir().expect("a directory");
    let kept = [
        ".proxy.backup",
        ".proxy.litemoe-",
        ".proxy.litemoe-a1B2c",
        ".proxy.litemoe-a1B2c34",
        ".proxy.litemoe-a1B2c_",
        ".proxy2.litemoe-a1B2c3",
        "proxy.litemoe-a1B2c3",
    ];
    for name in kept {
        fs::write(scene.path().join(name), "mine").expect("a file");
    }
    let elsewhere = scene.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    fs::write(elsewhere.join("mine"), "mine").expect("a file");
    let link = scene.path().join(".proxy.litemoe-linked");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
    stage(&scene.path().join("proxy"));
    assert!(kept.iter().all(|name| scene.path().join(name).exists()));
    assert!(link.is_symlink() && elsewhere.join("mine").exists());
}

/// Writers of the same target do not remove each other's files.
#[test]
fn writers_at_the_same_time_all_succeed() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("scores.json");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let target = &target;
            scope.spawn(move || {
                for _ in 0..100 {
                    write_file(target, |out| write!(out, "{writer}")).expect("written");
                }
            });
        }
    });
    assert_eq!(names(scene.path()), ["scores.json"]);
}

fn stage(target: &Path) {
    let mut staged = StagedDir::new(target, |_| true).expect("staging");
    staged.file("second").expect("a file").write_all(b"2").expect("written");
    staged.commit().expect("a commit");
}

fn write(target: &Path) {
    write_file(target, |out| out.write_all(b"2")).expect("written");
}

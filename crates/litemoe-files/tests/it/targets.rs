#![cfg(unix)]

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::Command;

use litemoe_files::{StagedDir, check_target, check_target_file, write_file};
use tempfile::tempdir;

/// Checks that neither a file nor a directory replaces what is at the target.
#[track_caller]
fn is_left_alone(target: &Path) {
    let entries = || fs::read_dir(target.parent().expect("a parent")).expect("a directory").count();
    let before = entries();
    let write = |out: &mut dyn Write| out.write_all(b"new");
    for kind in [
        write_file(target, write).expect_err("a file").kind(),
        check_target_file(target).expect_err("a file").kind(),
        StagedDir::new(target, |_| true).expect_err("a directory").kind(),
        check_target(target, |_| true).expect_err("a directory").kind(),
    ] {
        let expected = [ErrorKind::InvalidInput, ErrorKind::NotADirectory];
        assert!(expected.contains(&kind), "{kind}");
    }
    assert_eq!(entries(), before);
}

#[test]
fn links_are_not_replaced() {
    let scene = tempdir().expect("a directory");
    let (link, file, dir) =
        (scene.path().join("link"), scene.path().join("file"), scene.path().join("dir"));
    fs::write(&file, "mine").expect("a file");
    fs::create_dir(&dir).expect("a directory");
    for to in [&file, &dir, &scene.path().join("nowhere")] {
        symlink(to, &link).expect("a link");
        is_left_alone(&link);
        assert_eq!(fs::read_link(&link).expect("a link"), *to);
        fs::remove_file(&link).expect("removed");
    }
    assert_eq!(fs::read(&file).expect("a file"), b"mine");
}

#[test]
fn a_link_with_a_slash_behind_it_is_not_replaced() {
    let scene = tempdir().expect("a directory");
    let (dir, link) = (scene.path().join("dir"), scene.path().join("link"));
    fs::create_dir(&dir).expect("a directory");
    symlink(&dir, &link).expect("a link");
    is_left_alone(&scene.path().join("link/"));
    is_left_alone(&scene.path().join("link/."));
}

#[test]
fn a_pipe_is_not_replaced() {
    let scene = tempdir().expect("a directory");
    let pipe = scene.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    is_left_alone(&pipe);
    assert!(fs::metadata(&pipe).expect("metadata").file_type().is_fifo());
}

#[test]
fn a_device_is_not_replaced() {
    let null = Path::new("/dev/null");
    let error = check_target_file(null).expect_err("a device");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        check_target(null, |_| true).expect_err("a device").kind(),
        ErrorKind::NotADirectory
    );
}

#[test]
fn a_directory_is_not_replaced_by_a_file() {
    let scene = tempdir().expect("a directory");
    let error = write_file(scene.path(), |out| out.write_all(b"new")).expect_err("a directory");
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
}

#[test]
fn a_target_that_appears_while_it_is_staged_is_left_alone() {
    let scene = tempdir().expect("a directory");
    let target = scene.path().join("proxy");
    let staged = StagedDir::new(&target, |_| false).expect("staging");
    fs::create_dir(&target).expect("a directory");
    fs::write(target.join("mine"), "mine").expect("a file");
    assert_eq!(staged.commit().expect_err("a directory").kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(target.join("mine")).expect("a file"), b"mine");
    assert_eq!(fs::read_dir(scene.path()).expect("a directory").count(), 1);

    let file = scene.path().join("scores.json");
    let error = write_file(&file, |out| {
        symlink(&target, &file)?;
        out.write_all(b"new")
    });
    assert_eq!(error.expect_err("a link").kind(), ErrorKind::InvalidInput);
}

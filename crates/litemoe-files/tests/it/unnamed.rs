#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use litemoe_files::{UnnamedFile, dead_unnamed, is_unnamed, remove_unnamed, sync_dir};
use tempfile::tempdir;

const DEAD: &str = ".unnamed.litemoe-a1B2c3";

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn written(dir: &Path, bytes: &[u8]) -> UnnamedFile {
    let mut file = UnnamedFile::new(dir).expect("a file");
    file.write_all(bytes).expect("written");
    file
}

#[test]
fn a_file_is_named_when_it_is_whole() {
    let dir = tempdir().expect("a directory");
    let file = written(dir.path(), b"content").sync().expect("on disk");
    assert_eq!(names(dir.path()).len(), 1);
    file.rename("name").expect("named");
    sync_dir(dir.path()).expect("durable");
    assert_eq!(names(dir.path()), ["name"]);
    assert_eq!(fs::read(dir.path().join("name")).expect("a file"), b"content");
    written(dir.path(), b"other").sync().expect("on disk").rename("name").expect("replaced");
    assert_eq!(fs::read(dir.path().join("name")).expect("a file"), b"other");
}

#[test]
fn a_file_that_gets_no_name_leaves_nothing() {
    let dir = tempdir().expect("a directory");
    drop(written(dir.path(), b"content"));
    drop(written(dir.path(), b"content").sync().expect("on disk"));
    assert!(names(dir.path()).is_empty());
    fs::create_dir(dir.path().join("taken")).expect("a directory");
    let error = written(dir.path(), b"content").sync().expect("on disk").rename("taken");
    assert_eq!(error.expect_err("a directory has the name").kind(), ErrorKind::IsADirectory);
    assert_eq!(names(dir.path()), ["taken"]);
    let missing = dir.path().join("missing");
    assert_eq!(UnnamedFile::new(&missing).expect_err("none").kind(), ErrorKind::NotFound);
    assert_eq!(remove_unnamed(&missing).expect_err("none").kind(), ErrorKind::NotFound);
}

#[test]
fn only_what_dead_processes_left_is_removed() {
    let dir = tempdir().expect("a directory");
    let others = [".other.litemoe-a1B2c3", "unnamed", ".unnamed.litemoe-a1B2c"];
    for name in others.iter().chain(&[DEAD]) {
        fs::write(dir.path().join(name), "half").expect("a file");
    }
    let live = written(dir.path(), b"content");
    assert_eq!(dead_unnamed(dir.path()).expect("names"), [DEAD]);
    let n_unnamed = |dir: &Path| {
        names(dir).iter().filter(|name| is_unnamed(dir, OsStr::new(name.as_str()))).count()
    };
    assert_eq!(n_unnamed(dir.path()), 2);
    remove_unnamed(dir.path()).expect("removed");
    assert_eq!(dead_unnamed(dir.path()).expect("names"), [""; 0]);
    assert_eq!(n_unnamed(dir.path()), 1);
    live.sync().expect("on disk").rename("live").expect("named");
    assert_eq!(names(dir.path()).len(), others.len() + 1);
}

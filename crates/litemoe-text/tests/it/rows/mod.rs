//! Rows of files as people have them: read, or named for what they look like.

mod binaries;
mod files;
mod refusals;
mod shapes;

use std::fs;
use std::path::PathBuf;

use litemoe_text::{Row, RowFile, TextError};
use tempfile::TempDir;

fn file(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.txt");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

#[track_caller]
fn read(bytes: impl AsRef<[u8]>) -> RowFile {
    let (_dir, path) = file(bytes);
    RowFile::read(&path).unwrap()
}

/// The only row of a file.
#[track_caller]
fn one(bytes: impl AsRef<[u8]>) -> Row {
    let rows = read(bytes).rows;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().unwrap()
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>) -> TextError {
    let (_dir, path) = file(bytes);
    RowFile::read(&path).unwrap_err()
}

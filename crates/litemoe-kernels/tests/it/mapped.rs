use std::io::ErrorKind;

use litemoe_kernels::MappedFile;

#[test]
fn shows_the_bytes_and_clones_share_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("weights");
    std::fs::write(&path, b"12 experts").expect("a written file");
    let file = MappedFile::open(&path).expect("a mapped file");
    let clone = file.clone();
    assert_eq!(file.as_bytes(), b"12 experts");
    assert_eq!(clone.as_bytes().as_ptr(), file.as_bytes().as_ptr());
}

#[test]
fn an_empty_file_is_an_empty_slice() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    assert!(MappedFile::open(file.path()).expect("a mapped file").as_bytes().is_empty());
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = MappedFile::open(dir.path().join("missing")).expect_err("no file");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

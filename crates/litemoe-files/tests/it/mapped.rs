use std::io::{ErrorKind, Write};

use litemoe_files::MappedFile;

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
#[cfg(target_os = "linux")]
fn released_bytes_leave_memory_and_come_back() {
    const MIB: usize = 1 << 20;
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&[7; 8 * MIB]).expect("a written file");
    let map = MappedFile::open(file.path()).expect("a mapped file");
    let sum = || map.as_bytes().iter().map(|&byte| u64::from(byte)).sum::<u64>();
    let read = sum();
    let before = resident(file.path());
    map.release(0..6 * MIB + 1);
    let after = resident(file.path());
    assert!(before >= 8 * MIB && after <= 2 * MIB, "{before} bytes resident, then {after}");
    assert_eq!(sum(), read);
    map.release(3..3);
}

/// Resident bytes of a mapped file in this process.
#[cfg(target_os = "linux")]
fn resident(path: &std::path::Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("the process's maps");
    let path = path.to_str().expect("a plain path");
    let mut lines = maps.lines().skip_while(|line| !line.ends_with(path));
    let line = lines.find(|line| line.starts_with("Rss:")).expect("the map's size in memory");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("KiB");
    kib << 10
}

#[test]
#[should_panic(expected = "of 0 bytes")]
fn no_bytes_past_the_end_can_be_released() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    MappedFile::open(file.path()).expect("a mapped file").release(0..1);
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

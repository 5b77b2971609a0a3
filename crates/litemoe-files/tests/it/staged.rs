use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use litemoe_files::{StagedDir, holds_only, write_file, write_file_limited};
use tempfile::{TempDir, tempdir};

const CONFIG: &[u8] = b"{\"top_k\": 2}";
const WEIGHTS: &[u8] = &[7; 50];
const ALL_BYTES: u64 = (CONFIG.len() + WEIGHTS.len()) as u64;

fn write_artefact(mut dir: StagedDir) -> io::Result<()> {
    dir.file("config.json")?.write_all(CONFIG)?;
    for (shard, bytes) in WEIGHTS.chunks(9).enumerate() {
        dir.file(format!("weights-{shard}"))?.write_all(bytes)?;
    }
    dir.commit()
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn scene() -> (TempDir, std::path::PathBuf) {
    let scene = tempdir().expect("a temporary directory");
    let target = scene.path().join("proxy");
    (scene, target)
}

#[test]
fn a_directory_appears_whole() {
    let (scene, target) = scene();
    write_artefact(StagedDir::limited(&target, ALL_BYTES).expect("staging")).expect("a commit");
    assert_eq!(entries(scene.path()), ["proxy"]);
    assert_eq!(fs::read(target.join("config.json")).expect("a file"), CONFIG);
    assert_eq!(entries(&target).len(), 7);
}

#[test]
fn a_directory_that_was_there_is_replaced() {
    let (scene, target) = scene();
    fs::create_dir(&target).expect("the old directory");
    fs::write(target.join("old"), "old").expect("the old file");
    write_artefact(StagedDir::new(&target, |_| true).expect("staging")).expect("a commit");
    assert_eq!(entries(scene.path()), ["proxy"]);
    assert!(!target.join("old").exists() && target.join("config.json").exists());
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let (scene, target) = scene();
    fs::create_dir(&target).expect("the old directory");
    write_artefact(StagedDir::new(&target, |_| false).expect("an empty one")).expect("a commit");
    let error = StagedDir::new(&target, |_| false).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(entries(scene.path()), ["proxy"]);

    let known = ["config.json", "weights-0"];
    assert!(!holds_only(&target, &known), "weights-1 is there");
    for entry in entries(&target).iter().filter(|name| !known.contains(&name.as_str())) {
        fs::remove_file(target.join(entry)).expect("removed");
    }
    assert!(holds_only(&target, &known));
    fs::remove_file(target.join("weights-0")).expect("removed");
    fs::create_dir(target.join("weights-0")).expect("a folder of that name");
    assert!(!holds_only(&target, &known) && !holds_only(&target.join("missing"), &known));
}

#[test]
fn a_directory_that_fails_anywhere_leaves_nothing() {
    for max_bytes in 0..ALL_BYTES {
        let (scene, target) = scene();
        let staged = StagedDir::limited(&target, max_bytes).expect("staging");
        let error = write_artefact(staged).expect_err("a full disk");
        assert_eq!(error.kind(), ErrorKind::StorageFull, "after {max_bytes} bytes");
        assert!(entries(scene.path()).is_empty(), "after {max_bytes} bytes");
    }
}

#[test]
fn a_directory_that_fails_anywhere_leaves_the_old_one() {
    for max_bytes in 0..ALL_BYTES {
        let (scene, target) = scene();
        fs::create_dir(&target).expect("the old directory");
        fs::write(target.join("old"), "old").expect("the old file");
        let staged = StagedDir::limited(&target, max_bytes).expect("staging");
        write_artefact(staged).expect_err("a full disk");
        assert_eq!(entries(scene.path()), ["proxy"], "after {max_bytes} bytes");
        assert_eq!(entries(&target), ["old"], "after {max_bytes} bytes");
    }
}

#[test]
fn a_failure_that_the_writer_ignores_stops_the_commit() {
    let (scene, target) = scene();
    let mut dir = StagedDir::limited(&target, 3).expect("staging");
    let _ = dir.file("config.json").expect("a file").write_all(CONFIG);
    assert_eq!(dir.commit().expect_err("the ignored failure").kind(), ErrorKind::StorageFull);
    assert!(entries(scene.path()).is_empty());
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let (scene, target) = scene();
    fs::write(&target, "mine").expect("a file in the way");
    let error = StagedDir::new(&target, |_| true).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    assert_eq!(entries(scene.path()), ["proxy"]);
    assert_eq!(fs::read(&target).expect("the file"), b"mine");
}

#[test]
fn a_target_without_a_name_is_refused() {
    for target in ["/", "..", ""] {
        let error = StagedDir::new(Path::new(target), |_| true).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_file_that_fails_anywhere_leaves_the_old_one() {
    for max_bytes in 0..CONFIG.len() as u64 {
        let (scene, target) = scene();
        for old in [None, Some("old")] {
            if let Some(old) = old {
                fs::write(&target, old).expect("the old file");
            }
            let error = write_file_limited(&target, max_bytes, |out| out.write_all(CONFIG))
                .expect_err("a full disk");
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), old);
            assert_eq!(entries(scene.path()).len(), usize::from(old.is_some()));
        }
    }
}

#[test]
fn a_file_replaces_the_old_one() {
    let (scene, target) = scene();
    fs::write(&target, "old").expect("the old file");
    write_file(&target, |out| out.write_all(CONFIG)).expect("a written file");
    assert_eq!(fs::read(&target).expect("the file"), CONFIG);
    assert_eq!(entries(scene.path()), ["proxy"]);
}

#[test]
fn a_file_whose_writer_ignores_a_failure_is_not_written() {
    let (scene, target) = scene();
    let result = write_file_limited(&target, 3, |out| {
        let _ = out.write_all(CONFIG);
        Ok(())
    });
    assert_eq!(result.expect_err("the ignored failure").kind(), ErrorKind::StorageFull);
    assert!(entries(scene.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn output_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let (scene, target) = scene();
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode();
    fs::create_dir(scene.path().join("plain")).expect("a directory");
    write_artefact(StagedDir::new(&target, |_| true).expect("staging")).expect("a commit");
    assert_eq!(mode(&target), mode(&scene.path().join("plain")));
    let (ours, plain) = (scene.path().join("ours.json"), scene.path().join("plain.json"));
    fs::write(&plain, CONFIG).expect("a file");
    write_file(&ours, |out| out.write_all(CONFIG)).expect("a written file");
    assert_eq!(mode(&ours), mode(&plain));
}

//! Directories that `customize` writes for itself: replaced while they are unchanged, never the user's own.

use std::fs;

use crate::bench::{Bench, Run};

/// Has the first stage fail, whose job file is a directory: what `customize` writes for itself is there by then.
fn stop_the_first_stage(bench: &Bench) {
    fs::create_dir_all(bench.path("out/rows/stages/foundation.job")).expect("made");
}

/// Runs `customize` up to the first stage: the rows are split before.
fn split(bench: &Bench, seed: &str) -> Run {
    stop_the_first_stage(bench);
    let args = ["customize", "--foundation", "model", "--out", "out", "--app", "rows.jsonl"];
    let run = bench.run(&[&args[..], &["--seed", seed]].concat());
    assert_eq!(run.code, 1, "{}", run.stdout);
    run
}

const SPLITS: [&str; 3] = ["train", "validation", "test"];

fn read_splits(bench: &Bench) -> [Vec<u8>; 3] {
    SPLITS.map(|name| bench.read(&format!("out/apps/rows/{name}.jsonl")))
}

#[test]
fn splits_are_replaced_while_they_are_unchanged() {
    let bench = Bench::new();
    let seeds = ["0", "1"].map(|seed| {
        let run = split(&bench, seed);
        assert!(run.stderr.contains("foundation.job"), "{}", run.stderr);
        read_splits(&bench)
    });
    assert_ne!(seeds[0], seeds[1]);

    fs::write(bench.path("out/apps/rows/train.jsonl"), "mine").expect("written");
    let before = read_splits(&bench);
    let run = split(&bench, "0");
    for mention in ["out/apps/rows", "did not write"] {
        assert!(run.stderr.contains(mention), "{}", run.stderr);
    }
    assert_eq!(read_splits(&bench), before);
}

#[test]
fn splits_of_the_user_are_not_replaced() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("out/apps/rows")).expect("made");
    for name in SPLITS {
        bench.write_rows(&format!("out/apps/rows/{name}.jsonl"), 5);
    }
    let before = read_splits(&bench);
    let run = split(&bench, "0");
    assert!(run.stderr.contains("did not write"), "{}", run.stderr);
    assert_eq!(read_splits(&bench), before);
    assert_eq!(fs::read_dir(bench.path("out/apps")).expect("a folder").count(), 1);
}

#[test]
fn the_same_splits_without_a_record_are_used_and_not_replaced() {
    let bench = Bench::new();
    split(&bench, "0");
    let (record, before) = (bench.path("out/apps/rows/.litemoe-written.json"), read_splits(&bench));
    fs::remove_file(&record).expect("a record");
    assert!(!split(&bench, "0").stderr.contains("did not write"));
    assert!(split(&bench, "1").stderr.contains("did not write"));
    assert!(read_splits(&bench) == before && !record.exists());
}

#[test]
fn a_written_directory_with_another_file_is_not_replaced() {
    let bench = Bench::new();
    split(&bench, "0");
    let mine = bench.path("out/apps/rows/notes.txt");
    fs::write(&mine, "mine").expect("written");
    assert!(split(&bench, "1").stderr.contains("did not write"));
    assert_eq!(fs::read(&mine).expect("a file"), b"mine");
}

#[cfg(feature = "embedded")]
#[test]
fn a_foundation_of_the_user_is_not_replaced() {
    let bench = Bench::new();
    let own = ["config.json", "model.safetensors"];
    fs::create_dir_all(bench.path("out/foundation")).expect("made");
    for name in own {
        let to = bench.path("out/foundation").join(name);
        fs::copy(bench.path("model").join(name), to).expect("copied");
    }
    let read = || own.map(|name| bench.read(&format!("out/foundation/{name}")));
    let before = read();
    stop_the_first_stage(&bench);
    let unpack = || bench.run(&["customize", "--app", "rows.jsonl", "--out", "out"]);
    let run = unpack();
    for mention in ["out/foundation", "did not write"] {
        assert!(run.stderr.contains(mention), "{}", run.stderr);
    }
    assert_eq!(read(), before);

    fs::remove_dir_all(bench.path("out/foundation")).expect("removed");
    let run = unpack();
    assert!(run.code == 1 && !run.stderr.contains("did not write"), "{}", run.stderr);
    fs::write(bench.path("out/foundation/config.json"), "{}").expect("written");
    assert!(unpack().stderr.contains("did not write"));
    assert_eq!(bench.read("out/foundation/config.json"), b"{}");
}

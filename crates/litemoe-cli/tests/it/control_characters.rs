//! Control characters in files, which are printed by their escapes.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, edit_json};

#[track_caller]
fn is_plain(text: &str) {
    assert!(text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()), "{text:?}");
}

#[test]
fn an_error_prints_no_control_character() {
    let bench = Bench::new();
    edit_json(&bench.path("model/config.json"), |config| {
        config["model_type"] = "evil\u{1b}]0;pwn\u{7}\u{9b}2J\r".into();
    });
    let run = bench.run(&["inspect", "model"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains(r"evil\u001b]0;pwn\u0007\u009b2J\u000d"), "{}", run.stderr);
    is_plain(&run.stderr);
}

#[cfg(unix)]
#[test]
fn lines_and_json_print_no_control_character() {
    let bench = Bench::new();
    let name = "rows\u{1b}[2J\u{7f}\u{9b}.jsonl";
    fs::copy(bench.path("rows.jsonl"), bench.path(name)).expect("copied");
    let run = bench.run(&["data", "check", name]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains(r"rows\u001b[2J\u007f\u009b.jsonl"), "{}", run.stdout);
    is_plain(&run.stdout);

    let run = bench.run(&["data", "check", name, "--json"]);
    is_plain(&run.stdout);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["files"][0]["file"], name);
}

#[cfg(unix)]
#[test]
fn a_note_prints_no_control_character() {
    let bench = Bench::new();
    bench.write_rows("rows\u{1b}[2J.jsonl", 40);
    let out = ["--max-tokens", "26", "--out", "scores.json"];
    let run = bench.run(&[&["score", "model", "rows\u{1b}[2J.jsonl"], &out[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let note = "rows longer than 26 tokens are skipped";
    let note = run.stderr.lines().find(|line| line.contains(note)).expect(note);
    assert!(note.starts_with(r"rows\u001b[2J.jsonl: "), "{note}");
    is_plain(&run.stderr);
}

//! What outputs may replace, and who writes them.

use std::fs;
use std::path::Path;

use litemoe_files::{StagedDir, TargetLock};

use crate::bench::Bench;

/// Runs a command and checks that it fails, mentions all of these, and changes no file.
#[track_caller]
fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    let before = files(&bench.path(""));
    let run = bench.run(args);
    assert_eq!(run.code, 1, "{args:?}: {}{}", run.stdout, run.stderr);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
    assert!(files(&bench.path("")) == before, "{args:?} changed something");
}

/// Names and contents of all files below a folder except the cache of fingerprints; links by where they lead.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        let contents = if kind.is_symlink() {
            fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            fs::read(&path).expect("a file")
        } else {
            if kind.is_dir() && entry.file_name() != "cache" {
                found.extend(files(&path));
            }
            continue;
        };
        found.push((path.display().to_string(), contents));
    }
    found.sort();
    found
}

const TUNE: [&str; 5] = ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl"];
const MOUNT: [&str; 7] =
    ["mount", "model", "adapter", "--validation", "rows.jsonl", "--scale", "1"];

#[test]
fn an_output_does_not_replace_an_input() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    fs::create_dir(bench.path("holds")).expect("a folder");
    fs::copy(bench.path("plan.json"), bench.path("holds/plan.json")).expect("copied");
    let commands: [(&[&str], &str); 12] = [
        (&["score", "model", "rows.jsonl", "--out", "rows.jsonl"], "input rows.jsonl"),
        (&["score", "model", "rows.jsonl", "--out", "./model/../rows.jsonl"], "input rows.jsonl"),
        (&["score", "model", "rows.jsonl", "--out", "model/config.json"], "input"),
        (
            &[
                "score",
                "model",
                "rows.jsonl",
                "--similarity",
                "affinity",
                "--similarity-out",
                "rows.jsonl",
            ],
            "input rows.jsonl",
        ),
        (&["score", "merge", "scores.json", "plan.json", "--out", "plan.json"], "input plan.json"),
        (&["plan", "model", "scores.json", "--out", "scores.json"], "input scores.json"),
        (&["eval", "model", "rows.jsonl", "--predictions", "rows.jsonl"], "input rows.jsonl"),
        (&["eval", "model", "rows.jsonl", "--predictions", "model/tokenizer.json"], "input"),
        (&["extract", "model", "plan.json", "--out", "model"], "input"),
        (&["extract", "model", "holds/plan.json", "--out", "holds"], "input holds/plan.json"),
        (
            &[&TUNE[..], &["--plan", "plan.json", "--init", "adapter", "--out", "adapter"]]
                .concat(),
            "input adapter",
        ),
        (&[&MOUNT[..], &["--out", "adapter"]].concat(), "input adapter"),
    ];
    for (args, mention) in commands {
        refused(&bench, args, &["would replace", mention]);
    }
    refused(&bench, &[&TUNE[..], &["--out", "model"]].concat(), &["model", "did not write"]);
}

#[cfg(unix)]
#[test]
fn an_output_replaces_no_link_and_no_pipe() {
    use std::os::unix::fs::symlink;

    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    for (link, to) in
        [("file", "plan.json"), ("dir", "proxy"), ("tuned", "adapter"), ("nowhere", "none")]
    {
        symlink(bench.path(to), bench.path(link)).expect("a link");
    }
    let made = std::process::Command::new("mkfifo").arg(bench.path("pipe")).status();
    assert!(made.expect("mkfifo runs").success());
    for out in ["file", "nowhere", "pipe"] {
        let kind = if out == "pipe" { "not a regular file" } else { "is a link" };
        refused(&bench, &["score", "model", "rows.jsonl", "--out", out], &[out, kind]);
        refused(
            &bench,
            &["plan", "model", "scores.json", "--budget", "0.5", "--out", out],
            &[out, kind],
        );
        refused(&bench, &["eval", "model", "rows.jsonl", "--predictions", out], &[out, kind]);
    }
    for out in ["dir", "nowhere"] {
        refused(&bench, &["extract", "model", "plan.json", "--out", out], &[out, "is a link"]);
    }
    for out in ["tuned", "tuned/", "nowhere"] {
        let name = out.trim_end_matches('/');
        refused(&bench, &[&TUNE[..], &["--out", out]].concat(), &[name, "is a link"]);
    }
    refused(&bench, &[&MOUNT[..], &["--out", "nowhere"]].concat(), &["nowhere", "is a link"]);
}

#[test]
fn two_programs_do_not_write_the_same_folder() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let before = bench.names();
    let commands: [(&str, &[&str]); 4] = [
        ("proxy", &["extract", "model", "plan.json"]),
        (
            "changed",
            &[
                "extract",
                "model",
                "plan.json",
                "--refit",
                "low-rank",
                "--data",
                "rows.jsonl",
                "--refit-out",
                "changed",
            ],
        ),
        ("adapter", &TUNE),
        ("mounted", &[&MOUNT[..], &["--plan", "plan.json"]].concat()),
    ];
    for (out, args) in commands {
        let lock = TargetLock::new(&bench.path(out)).expect("a lock");
        refused(&bench, args, &["another program is at work", out]);
        drop(lock);
        assert_eq!(bench.names(), before);
    }
    bench.json(&["extract", "model", "plan.json"]);
    assert_eq!(bench.names(), before);
}

#[cfg(unix)]
#[test]
fn what_interrupted_runs_left_is_removed_by_the_next_one() {
    let bench = Bench::new();
    bench.extract(&[]);
    let before = bench.names();
    let live = StagedDir::new(&bench.path("proxy"), |_| true).expect("staging");
    for dead in [".proxy.litemoe-dead01", ".scores.json.litemoe-dead02", ".other.litemoe-dead03"] {
        fs::create_dir(bench.path(dead)).expect("a folder");
        fs::write(bench.path(dead).join("model.safetensors"), "half").expect("a file");
    }
    bench.json(&["extract", "model", "plan.json"]);
    bench.json(&["score", "model", "rows.jsonl"]);
    assert!(live.path().exists());
    drop(live);
    let is_new = |name: &String| !before.contains(name);
    let new: Vec<String> = bench.names().into_iter().filter(is_new).collect();
    assert_eq!(new, [".other.litemoe-dead03"], "another output is none of theirs");
}

/// A run is killed while it waits in the middle of writing.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_killed_leaves_the_old_output_and_the_next_one_succeeds() {
    let bench = Bench::new();
    bench.extract(&[]);
    let old = bench.read("proxy/model.safetensors");
    let mut killed = 0;
    for pause in 0..40 {
        let mut run = bench.command(&["extract", "model", "plan.json", "--json"]);
        let mut run = run.stdout(std::process::Stdio::null()).spawn().expect("the binary runs");
        std::thread::sleep(std::time::Duration::from_millis(2 * pause));
        run.kill().expect("killed");
        killed += usize::from(!run.wait().expect("ended").success());
        assert!(bench.read("proxy/model.safetensors") == old, "after {} ms", 2 * pause);
    }
    assert!(killed > 0);
    bench.json(&["extract", "model", "plan.json"]);
    let left: Vec<String> =
        bench.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

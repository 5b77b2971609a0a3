//! Full disk: the system refuses writes beyond a size limit, and the target stays unchanged.

use std::fs;
use std::process::Command;

use crate::bench::{Bench, Run};

/// Runs the binary with a file size limit of `bytes`, by util-linux's `prlimit`.
fn run_limited(bench: &Bench, bytes: usize, args: &[&str]) -> Run {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("trap '' XFSZ; limit=$1; shift; exec prlimit --fsize=\"$limit\" \"$@\"")
        .arg("sh");
    command.arg(bytes.to_string()).arg(env!("CARGO_BIN_EXE_litemoe")).args(args);
    Run::of(&command.current_dir(bench.path("")).output().expect("sh runs"))
}

#[cfg(target_os = "linux")]
#[test]
fn an_artefact_is_whole_or_as_before() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let commands: [(&str, &[&str]); 6] = [
        ("scores.json", &["score", "model", "rows.jsonl"]),
        ("plan.json", &["plan", "model", "scores.json", "--budget", "0.5"]),
        ("proxy/model.safetensors", &["extract", "model", "plan.json"]),
        (
            "predictions.jsonl",
            &[
                "eval",
                "model",
                "rows.jsonl",
                "--max-new",
                "1",
                "--predictions",
                "predictions.jsonl",
            ],
        ),
        (
            "mounted/adapter_model.safetensors",
            &[
                "mount",
                "model",
                "adapter",
                "--validation",
                "rows.jsonl",
                "--out",
                "mounted",
                "--scale",
                "1",
            ],
        ),
        (
            "exported/export.json",
            &["export", "vllm", "proxy", "--adapter", "home=adapter", "--out", "exported"],
        ),
    ];
    let before = bench.names();
    for (target, args) in commands {
        let path = bench.path(target);
        let old = fs::read(&path).ok();
        for bytes in [0, 1, 100, 1000] {
            let run = run_limited(&bench, bytes, args);
            assert_eq!(run.code, 1, "{target} limited to {bytes} bytes: {}", run.stderr);
            assert_eq!(fs::read(&path).ok(), old, "{target} changed");
            assert_eq!(
                bench.names(),
                before,
                "{target} limited to {bytes} bytes left something behind"
            );
        }
    }
}

//! Determinism: the same seed gives the same result, also if the run is interrupted and resumed.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use crate::bench::Bench;

const ADAPTER: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];

#[test]
fn two_runs_write_the_same_bytes() {
    let run = || {
        let bench = Bench::new();
        bench.extract(&["--merge", "litemoe", "--router", "redirect", "--cold", "0.1"]);
        bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
        bench
    };
    let (one, two) = (run(), run());
    let proxy = ["proxy/model.safetensors", "proxy/config.json"].map(str::to_owned);
    // `adapter_config.json` differs: it names the base model's path.
    let adapter = [format!("adapter/{}", ADAPTER[0])];
    for name in ["scores.json".to_owned(), "similarity.json".to_owned(), "plan.json".to_owned()]
        .iter()
        .chain(&proxy)
        .chain(&adapter)
    {
        assert!(one.read(name) == two.read(name), "{name} differs between two runs");
    }
}

/// Waits until a run has written a checkpoint other than `old`; false if the run ended first.
pub(crate) fn checkpointed(child: &mut Child, file: &Path, old: Option<&[u8]>) -> bool {
    while child.try_wait().expect("asked").is_none() {
        if fs::read(file).is_ok_and(|now| Some(now.as_slice()) != old) {
            return true;
        }
        thread::yield_now();
    }
    false
}

#[test]
fn a_killed_tune_resumes_to_the_same_adapter() {
    let bench = Bench::new();
    let options = ["--steps", "300", "--validate-every", "7"];
    bench.tune("model", "whole", &options);
    let tune =
        ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl", "--out", "parts", "--resume"];
    let quick = ["--batch", "4", "--validation-rows", "8", "--warmup", "2", "--json"];
    let file = bench.path("parts.checkpoint");
    for _ in 0..4 {
        let old = fs::read(&file).ok();
        let args = [&tune[..], &quick[..], &options[..]].concat();
        let mut child = bench.command(&args).stdout(Stdio::null()).spawn().expect("it starts");
        assert!(
            checkpointed(&mut child, &file, old.as_deref()),
            "the run ended before it was killed"
        );
        child.kill().expect("killed"); // SIGKILL, at an arbitrary point of the run
        child.wait().expect("ended");
    }
    assert!(!bench.path("parts").exists(), "a killed run left an adapter");
    bench.tune("model", "parts", &[&options[..], &["--resume"]].concat());
    for name in ADAPTER {
        let same = bench.read(&format!("whole/{name}")) == bench.read(&format!("parts/{name}"));
        assert!(same, "{name} differs");
    }
}

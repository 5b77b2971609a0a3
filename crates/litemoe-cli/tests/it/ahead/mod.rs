//! What commands do ahead of their work, and `customize` on a tiny model.

mod checks;
mod dry_runs;
mod formats;
mod sweeps;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bench::Bench;

const QUICK: [&str; 17] = [
    "customize",
    "--foundation=model",
    "--app=home=app",
    "--out",
    "out",
    "--steps=4",
    "--batch=4",
    "--warmup=1",
    "--validate-every=2",
    "--validation-rows=8",
    "--calibration-rows=16",
    "--limit=10",
    "--guard-rows=8",
    "--refit-rank=4",
    "--max-tokens=64",
    "--expert-rank=2",
    "--rank=4",
];

/// Directory with `model/` and the splits of `app/`.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("app")).expect("made");
    for (split, count) in [("train", 60), ("validation", 20), ("test", 20)] {
        bench.write_rows(&format!("app/{split}.jsonl"), count);
    }
    bench
}

fn quick<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&QUICK[..], options].concat()
}

/// Paths of all files and directories below one, with the files' contents; without the cache of fingerprints.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if let Ok(link) = fs::read_link(&path) {
            found.push((path.display().to_string(), link.display().to_string().into_bytes()));
        } else if path.is_dir() {
            if entry.file_name() != "cache" {
                found.push((path.display().to_string(), Vec::new()));
                found.extend(tree(&path));
            }
        } else {
            found.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

/// Checks that a run is refused before its first stage, with a message that mentions all of these, and that nothing is
/// written.
#[track_caller]
fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    let before = tree(&bench.path(""));
    let run = bench.run(args);
    assert_eq!(run.code, 1, "{args:?}: {}{}", run.stdout, run.stderr);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
    assert!(!run.stderr.contains("evaluating"), "a stage ran: {}", run.stderr);
    assert!(tree(&bench.path("")) == before, "{args:?} left something behind");
}

/// Names of the listed stages, and whether they are finished.
fn states(app: &Value) -> Vec<(String, bool)> {
    let stages = app["stages"].as_array().expect("a list").iter();
    stages
        .map(|stage| {
            let name = stage["name"].as_str().expect("a name").to_owned();
            (name, stage["finished"].as_bool().expect("a state"))
        })
        .collect()
}

/// Whether a message says that a stage begins.
fn is_stage(line: &str) -> bool {
    let abouts = ["evaluating", "scoring", "choosing", "writing the proxy", "tuning", "mounting"];
    let said = line.split_once(' ').map_or("", |(_, said)| said.trim_start());
    abouts.iter().any(|about| said.starts_with(about))
}

//! Scores of shards of the rows, merged.

use serde_json::Value;

use crate::bench::Bench;

fn scores(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&bench.read(name)).expect("JSON")
}

/// The measured sums of a file, as text.
fn measured(bench: &Bench, name: &str) -> String {
    serde_json::to_string_pretty(&scores(bench, name)["layers"]).expect("JSON")
}

/// Scores all rows, and each of three shards of them.
fn score_shards(bench: &Bench) {
    let score = ["score", "model", "rows.jsonl", "--similarity", "affinity", "--batch", "7"];
    bench.json(&[&score[..], &["--out", "whole.json"]].concat());
    for index in 1..=3 {
        let (shard, out) = (format!("{index}/3"), format!("{index}.json"));
        let args = [&score[..], &["--shard", &shard, "--out", &out]].concat();
        let run = bench.run(&args);
        assert_eq!((run.code, run.stderr.contains("warning")), (0, false), "{}", run.stderr);
    }
}

#[test]
fn merged_shards_are_one_pass_byte_for_byte() {
    for name in ["qwen3_moe", "switch_transformers"] {
        let bench = Bench::of(name);
        score_shards(&bench);
        let report = bench.json(&["score", "merge", "3.json", "1.json", "2.json"]);
        let whole = scores(&bench, "whole.json");
        assert_eq!((&report["sequences"], &report["skipped"]), (&40.into(), &0.into()));
        let shards = whole["shards"].as_array().expect("shards");
        let tokens: u64 = shards.iter().filter_map(|shard| shard["tokens"].as_u64()).sum();
        assert_eq!((shards.len(), &report["tokens"]), (40usize.div_ceil(7), &tokens.into()));
        assert_eq!(scores(&bench, "scores.json")["shards"], whole["shards"]);
        assert!(measured(&bench, "scores.json") == measured(&bench, "whole.json"), "{name}");
        // Merging in two steps and in another order gives the same file.
        bench.json(&["score", "merge", "2.json", "1.json", "--out", "two.json"]);
        bench.json(&["score", "merge", "two.json", "3.json", "--out", "three.json"]);
        assert!(bench.read("three.json") == bench.read("scores.json"));
        // So does planning from it.
        let plan = |scores: &str, merge: &str| {
            let out = format!("plan-{scores}");
            let budget = ["--budget", bench.budget, "--merge", merge, "--out", &out];
            bench.json(&[&["plan", "model", scores][..], &budget].concat());
            self::scores(&bench, &out)["layers"].clone()
        };
        for merge in ["none", "litemoe"] {
            assert_eq!(plan("scores.json", merge), plan("whole.json", merge), "{name}");
        }
    }
}

#[test]
fn what_does_not_add_up_is_refused() {
    let bench = Bench::new();
    score_shards(&bench);
    let refused = |args: &[&str], code: i32, said: &[&str]| {
        let run = bench.run(&[&["score"], args, &["--out", "sum.json"]].concat());
        assert_eq!(run.code, code, "{}", run.stderr);
        assert!(said.iter().all(|said| run.stderr.contains(said)), "{}", run.stderr);
        assert!(!run.stderr.contains("panicked") && !bench.path("sum.json").exists());
    };
    let sha256 = scores(&bench, "1.json")["shards"][0]["sha256"].clone();
    let sha256 = sha256.as_str().expect("a hash");
    refused(&["merge", "1.json", "2.json", "1.json"], 1, &["1.json", sha256, "count twice"]);
    bench.json(&["score", "merge", "1.json", "2.json", "--out", "two.json"]);
    refused(&["merge", "1.json", "two.json"], 1, &["two.json", sha256]);
    refused(&["merge", "whole.json", "2.json"], 1, &["2.json", "count twice"]);
    let other = Bench::of("mixtral");
    other.json(&["score", "model", "rows.jsonl"]);
    std::fs::copy(other.path("scores.json"), bench.path("other.json")).expect("copied");
    refused(&["merge", "1.json", "other.json"], 1, &["other.json", "model"]);
    bench.json(&["score", "model", "rows.jsonl", "--shard", "2/3", "--batch", "5"]);
    refused(&["merge", "1.json", "scores.json"], 1, &["scores.json", "`batch`"]);
    bench.json(&["score", "model", "rows.jsonl", "--shard", "2/3", "--batch", "7"]);
    refused(&["merge", "1.json", "scores.json"], 1, &["scores.json", "similarities"]);
    refused(&["merge", "1.json"], 2, &["SCORES"]);
    refused(&["model", "rows.jsonl", "--shard", "4/3"], 2, &["--shard", "4/3"]);
    refused(&["model", "rows.jsonl", "--shard", "1/99"], 1, &["99 shards"]);
    refused(&["model", "rows.jsonl", "merge"], 2, &["merge"]);
    refused(&["model"], 2, &["ROWS"]);
}

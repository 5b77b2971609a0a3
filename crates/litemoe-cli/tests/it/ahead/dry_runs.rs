//! Dry runs.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::{bench, is_stage, quick, refused, states, tree};

#[test]
fn a_dry_run_writes_nothing_and_lists_the_stages_that_run() {
    let bench = bench();
    let before = tree(&bench.path(""));
    let budget = ["--budget=0.5", "--scale=0"];
    let dry = bench.json(&quick(&[&budget[..], &["--dry-run"]].concat()));
    let text = bench.run(&quick(&[&budget[..], &["--dry-run"]].concat()));
    assert!(tree(&bench.path("")) == before, "a dry run wrote something");
    assert_eq!(text.code, 0, "{}", text.stderr);
    assert!(text.stdout.contains("keeps 4 experts a layer"), "{}", text.stdout);

    let app = &dry["apps"][0];
    assert_eq!(app["rows"]["calibration"]["rows"], 16);
    assert_eq!(app["rows"]["test"]["rows"], 10);
    let proxy = &app["proxies"][0];
    assert_eq!((&proxy["kept_per_layer"], &proxy["refit"]), (&json!(4), &json!("low-rank")));
    assert!(states(app).iter().all(|(_, finished)| !finished));

    let run = bench.run(&quick(&budget));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let of_run: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| is_stage(line))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let listed: Vec<String> = states(app).into_iter().map(|(name, _)| name).collect();
    // With scale 0 no adapter is mounted: its evaluation is then left out.
    let runs = |name: &&String| of_run.contains(&name.as_str());
    let skipped: Vec<&String> = listed.iter().filter(|name| !runs(name)).collect();
    assert_eq!(skipped, ["mounted", "random_mounted"], "of {listed:?}");
    assert_eq!(listed.iter().filter(runs).collect::<Vec<_>>(), of_run, "another order");

    let report: Value = serde_json::from_slice(&bench.read("out/report.json")).expect("JSON");
    assert_eq!(report["apps"][0]["expert_bytes"]["proxy"], proxy["expert_bytes"]);
    let tuned: Value =
        serde_json::from_slice(&bench.read("out/home/stages/tune.json")).expect("JSON");
    assert_eq!(tuned["report"]["memory_bytes"], proxy["adapter_bytes"]);

    let after = tree(&bench.path(""));
    let again = bench.json(&quick(&[&budget[..], &["--dry-run"]].concat()));
    assert!(tree(&bench.path("")) == after);
    let states = states(&again["apps"][0]);
    assert!(states.iter().all(|(_, finished)| *finished), "{states:?}");
    assert_eq!(states.iter().map(|(name, _)| name).collect::<Vec<_>>(), of_run);
    assert_eq!((&again["seconds"], &again["memory_bytes"]), (&json!(0.0), &json!(0)));
}

#[test]
fn dry_runs_of_score_and_tune_write_nothing() {
    let bench = bench();
    let before = tree(&bench.path(""));
    let tune = ["tune", "model", "app/train.jsonl", "--validation", "app/validation.jsonl"];
    for (args, output) in [
        (
            &["score", "model", "rows.jsonl", "--rows", "16", "--out", "new/scores.json"][..],
            "scores.json",
        ),
        (&[&tune[..], &["--batch=4", "--expert-rank=2", "--out=new/adapter"]].concat(), "adapter"),
    ] {
        let told = bench.json(&[args, &["--dry-run"]].concat());
        let rows = if args[0] == "score" { 16 } else { 60 };
        assert_eq!(told["rows"], rows);
        assert!(told["memory_bytes"].as_u64() > Some(1 << 20), "{told}");
        assert!(told["outputs"][0].as_str().is_some_and(|path| path.ends_with(output)), "{told}");
        let text = bench.run(&[args, &["--dry-run"]].concat());
        assert!(text.stdout.contains("nothing was written"), "{}{}", text.stdout, text.stderr);
    }
    let foundation = litemoe_fixtures::foundation_dir();
    let needs = |dtype: &str| {
        let model = foundation.to_str().expect("a path");
        let args = ["tune", model, "rows.jsonl", "--validation=rows.jsonl", "--out=new/adapter"];
        let told = bench.json(&[&args[..], &["--dry-run", "--dtype", dtype]].concat());
        told["memory_bytes"].as_i64().expect("bytes")
    };
    // The weights take 45.90 MiB in f32 and 7.24 MiB in q4, in pages of 2 MiB.
    let less = (needs("f32") - needs("q4")) as f64 / f64::from(1 << 20);
    assert!((34.0..40.0).contains(&less), "{less}");
    assert!(tree(&bench.path("")) == before, "a dry run wrote something");
    let tune = [&tune[..], &["--out=adapter"]].concat();
    refused(&bench, &[&tune[..], &["--rank=65"]].concat(), &["rank is 65", "above 64"]);
    refused(&bench, &[&tune[..], &["--targets=nonsense"]].concat(), &["`nonsense`"]);
    refused(&bench, &[&tune[..], &["--dry-run", "--targets=nonsense"]].concat(), &["`nonsense`"]);
    let missing = ["--dry-run", "--init=nonexistent"];
    refused(&bench, &[&tune[..], &missing].concat(), &["nonexistent"]);
    let hot = ["--dry-run", "--hot-experts=0.5"];
    refused(&bench, &[&tune[..], &hot].concat(), &["--hot-experts needs --scores"]);
    let missing = [&tune[..], &hot, &["--scores=nonexistent"]].concat();
    refused(&bench, &missing, &["nonexistent"]);
    fs::write(bench.path("adapter.checkpoint"), "mine").expect("written");
    refused(
        &bench,
        &[&tune[..], &["--dry-run"]].concat(),
        &["adapter.checkpoint", "no checkpoint"],
    );
    let score = ["score", "model", "rows.jsonl", "--out=rows.jsonl"];
    refused(&bench, &[&score[..], &["--dry-run"]].concat(), &["input rows.jsonl"]);
}

#[test]
fn a_dry_run_of_tune_counts_the_adapter_that_it_would_tune() {
    let bench = bench();
    bench.json(&["score", "model", "rows.jsonl"]);
    let tune = ["tune", "model", "app/train.jsonl", "--validation", "app/validation.jsonl"];
    let memory = |options: &[&str]| {
        let told = bench.json(&[&tune[..], &["--dry-run", "--targets=experts"], options].concat());
        told["memory_bytes"].as_i64().expect("bytes")
    };
    let all = memory(&["--expert-rank=32"]);
    let half = memory(&["--expert-rank=32", "--hot-experts=0.5", "--scores=scores.json"]);
    // Half of 16 experts with three matrices of 32 by 64 each, in f32, eightfold.
    let adapter = 8 * 3 * 32 * (32 + 64);
    let (saved, expected) = ((all - half) as f64, f64::from(adapter * 4 * 8));
    assert!((0.6..=1.4).contains(&(saved / expected)), "{saved} of {expected}");
}

#[test]
fn dry_runs_keep_no_fingerprints() {
    let bench = bench();
    // Fingerprints of files that have just changed are never kept.
    sleep(Duration::from_secs(3));
    let tune = ["tune", "model", "app/train.jsonl", "--validation", "app/validation.jsonl"];
    let dry = ["--dry-run"];
    bench.json(&[&["score", "model", "rows.jsonl"][..], &dry].concat());
    bench.json(&[&tune[..], &dry].concat());
    bench.json(&quick(&[&["--budget=0.5"][..], &dry].concat()));
    assert!(!bench.path("cache").exists());
    bench.json(&["inspect", "model"]);
    assert_eq!(fs::read_dir(bench.path("cache/fingerprints")).expect("a folder").count(), 1);
}

fn dry_extract<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["extract", "model", "plan.json", "--dry-run"], options].concat()
}

#[test]
fn a_dry_run_of_extract_tells_what_is_written_and_writes_nothing() {
    let bench = bench();
    bench.json(&["score", "model", "rows.jsonl"]);
    bench.json(&["plan", "model", "scores.json", "--budget", "0.5"]);
    let extract = ["extract", "model", "plan.json", "--out", "new/proxy"];
    let refit = |kind| [&extract[..], &["--refit", kind, "--data", "rows.jsonl"]].concat();
    let before = tree(&bench.path(""));
    let dry = |args: &[&str]| bench.json(&[args, &["--dry-run"]].concat());
    let [plain, low_rank, full] = [extract.to_vec(), refit("low-rank"), refit("full")];
    let [told, of_low_rank, of_full] = [&plain, &low_rank, &full].map(|args| dry(args));
    for args in [&plain, &full] {
        let text = bench.run(&[&args[..], &["--dry-run"]].concat());
        assert!(text.stdout.contains("nothing was written"), "{}{}", text.stdout, text.stderr);
    }
    assert!(tree(&bench.path("")) == before, "a dry run wrote something");
    assert_eq!((&told["rows"], &told["outputs"]), (&json!(0), &json!(["new/proxy"])));
    assert_eq!(of_low_rank["rows"], 40);
    assert_eq!(of_low_rank["outputs"], json!(["new/proxy", "new/proxy-refit"]));
    assert!(of_low_rank["seconds"].as_f64() > Some(0.0), "{of_low_rank}");

    let written = |told: &Value| told["written_bytes"].as_u64().expect("bytes");
    bench.json(&low_rank);
    let weights = bench.read("new/proxy/model.safetensors").len() as u64;
    assert_eq!(written(&told), weights);
    let adapter = bench.read("new/proxy-refit/adapter_model.safetensors").len() as u64;
    let forecast = written(&of_low_rank) - weights;
    assert!(forecast <= adapter && adapter < forecast + (1 << 14), "{adapter}, not {forecast}");
    assert!(written(&of_full) > 2 * weights, "{of_full}");

    // What a run would refuse.
    fs::create_dir_all(bench.path("mine")).expect("made");
    fs::write(bench.path("mine/thesis.txt"), "precious").expect("written");
    refused(&bench, &dry_extract(&["--out=mine"]), &["mine", "did not write"]);
    refused(&bench, &dry_extract(&["--out=model"]), &["replace the input model"]);
    refused(&bench, &dry_extract(&["--refit-rank=4"]), &["--refit-rank", "low-rank"]);
    let refit = ["--refit=low-rank", "--data=rows.jsonl"];
    let in_use = [&refit[..], &["--refit-out=mine"]].concat();
    refused(&bench, &dry_extract(&in_use), &["mine", "did not write"]);
    refused(
        &bench,
        &dry_extract(&[&refit[..], &["--max-tokens=1"]].concat()),
        &["within 1 tokens"],
    );
}

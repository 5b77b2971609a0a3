//! Sweeps of `customize`, and the results of earlier runs.

use std::fs;

use serde_json::{Value, json};

use super::{QUICK, bench, is_stage, quick, states};

/// The proxy is then the foundation, and its adapter is mounted as it is.
#[test]
fn a_budget_of_all_experts_gives_the_tuned_proxy() {
    let bench = bench();
    let run = bench.json(&quick(&["--budget=1", "--scale=1", "--routing=restricted"]));
    let app = &run["apps"][0];
    assert_eq!(app["expert_bytes"]["proxy"], app["expert_bytes"]["foundation"]);
    assert_eq!(app["proxy"], app["foundation"]);
    assert_eq!(app["mounted"], app["tuned_proxy"]);
    assert_ne!(app["mounted"], app["foundation"]);
}

#[test]
fn a_report_keeps_the_results_of_earlier_runs() {
    let bench = bench();
    let run = |options: &[&str]| {
        let all = [&["--budget=0.5", "--no-controls"], options].concat();
        let printed = bench.json(&quick(&all));
        (printed, serde_json::from_slice::<Value>(&bench.read("out/report.json")).expect("JSON"))
    };
    let (printed, first) = run(&[]);
    assert_eq!(printed, json!({"apps": first["apps"]}));
    assert_eq!(first["earlier"], json!([]));
    let (_, second) = run(&["--score=reap"]);
    assert_eq!(second["apps"][0]["options"]["plan"]["score"], "reap");
    assert_eq!(second["earlier"].as_array().map(Vec::len), Some(1));
    for key in ["apps", "date", "program"] {
        assert_eq!(second["earlier"][0][key], first[key], "{key}");
    }
}

#[test]
fn a_sweep_shares_scores_and_full_tuning_and_resumes() {
    let bench = bench();
    let sweep = quick(&["--budget=.5,.75", "--score=task,reap"]);
    let dry = bench.json(&[&sweep[..], &["--dry-run"]].concat());
    assert!(!bench.path("out").exists());
    let run = bench.run(&sweep);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let begun = |name: &str| {
        let begins = |line: &&str| line.split_whitespace().next() == Some(name);
        run.stderr.lines().filter(begins).count()
    };
    // Two budgets of three scores: the control is one of them.
    let shared = ["foundation", "score", "tune_full", "full"];
    assert_eq!(shared.map(begun), [1; 4], "{}", run.stderr);
    assert_eq!(["plan", "extract", "tune", "mount"].map(begun), [6; 4], "{}", run.stderr);
    for dir in ["0.5-task", "0.5-reap", "0.5-random", "0.75-task", "0.75-reap", "0.75-random"] {
        assert!(bench.path("out/home").join(dir).join("proxy/config.json").exists(), "{dir}");
        let (budget, score) = dir.split_once('-').expect("a pair");
        let is_row = |line: &str| line.contains(budget) && line.contains(score);
        assert!(run.stdout.lines().any(is_row), "{dir}: {}", run.stdout);
    }
    assert!(run.stdout.contains("tuned in full"), "{}", run.stdout);
    let saved: Value = serde_json::from_slice(&bench.read("out/sweep.json")).expect("JSON");
    let apps = saved["apps"].as_array().expect("a list");
    assert_eq!(apps.len(), 6);
    assert!(!bench.path("out/report.json").exists());
    let listed = states(&dry["apps"][0]);
    assert_eq!(listed.len(), 4 + 6 * 7);

    let again = bench.run(&sweep);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!again.stderr.lines().any(is_stage), "{}", again.stderr);

    let inspected = bench.json(&["inspect", "out"]);
    let listed = (&inspected["kind"], &inspected["apps"], inspected.get("sweep"));
    assert_eq!(listed, (&json!("run"), &saved["apps"], None));
    let report = bench.path("out/report.json");
    fs::write(&report, json!({"apps": [apps[0]]}).to_string()).expect("written");
    let both = bench.json(&["inspect", "out"]);
    assert_eq!(both["apps"], json!([apps[0]]));
    assert_eq!(both["sweep"]["apps"], saved["apps"]);
    let text = bench.run(&["inspect", "out"]).stdout;
    for line in ["out/report.json:", "out/sweep.json:", "budget 0.75, score reap"] {
        assert_eq!(text.lines().filter(|it| *it == line).count(), 1, "{line}: {text}");
    }
    fs::remove_file(report).expect("removed");
    assert_eq!(bench.json(&["inspect", "out/sweep.json"])["apps"], both["sweep"]["apps"]);

    // One of the proxies alone is the same, number for number.
    let others = QUICK.map(|arg| if arg == "out" { "alone" } else { arg });
    let alone = bench.json(&[&others[..], &["--budget=.75", "--score=reap"]].concat());
    let of_sweep = apps
        .iter()
        .find(|app| app["budget"] == "0.75" && app["options"]["plan"]["score"] == "reap");
    for key in ["mounted", "proxy", "full", "choice", "recovery_perplexity", "expert_bytes"] {
        assert_eq!(of_sweep.expect("it was swept")[key], alone["apps"][0][key], "{key}");
    }
}

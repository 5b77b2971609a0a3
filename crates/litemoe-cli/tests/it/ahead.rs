//! `customize` on a tiny model: what is refused before the first stage, dry runs, the lock, earlier results, sweeps.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use litemoe_files::TargetLock;
use serde_json::{Value, json};

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

#[test]
fn options_that_a_later_stage_would_refuse_are_refused_first() {
    let bench = bench();
    for (options, mentions) in [
        (&["--targets=q_proj,nonsense"][..], &["`nonsense`", "q_proj", "experts"][..]),
        (&["--rank=65"], &["rank is 65", "above 64"]),
        (&["--expert-rank=33"], &["expert_rank is 33", "above 32"]),
        (&["--budget=0.01"], &["budget 0.01", "layer 0 needs 2", "98304 bytes"]),
        (&["--budget=0.5,0.01"], &["budget 0.01", "layer 0 needs 2"]),
        (&["--refit-rank=0"], &["--refit-rank is 0"]),
        (&["--refit-rank=65"], &["layer 0", "rank 65", "1 to 64"]),
        (&["--calibration-rows=0"], &["--calibration-rows is 0"]),
        (&["--refit=low-rank", "--targets=attention"], &["--refit low-rank", "down_proj"]),
        (&["--refit=low-rank", "--hot-experts=0.5"], &["--refit low-rank", "--hot-experts"]),
        (&["--steps=10000000000"], &["steps is 10000000000", "at most 1073741824"]),
        (&["--batch=10000000000"], &["batch is 10000000000", "at most 1048576"]),
        (&["--learning-rate=1e300"], &["lr is 1e300"]),
        (&["--alpha=1e300"], &["alpha is 1e300"]),
        (&["--weight-decay=1e300"], &["weight_decay is 1e300"]),
        (&["--merge=litemoe", "--cold=nan"], &["--cold is NaN"]),
        (&["--budget=0.5,0.50"], &["--budget 0.5 is given twice"]),
        (&["--score=task,reap,task"], &["--score task is given twice"]),
    ] {
        // The options of these tests come first: clap takes each once.
        let given = |arg: &&&str| {
            let name = arg.split('=').next().unwrap_or_default();
            arg.starts_with("--") && options.iter().any(|it| it.starts_with(&format!("{name}=")))
        };
        let others: Vec<&str> = QUICK.iter().filter(|arg| !given(arg)).copied().collect();
        let budget = if options[0].starts_with("--budget") { &[][..] } else { &["--budget=0.5"] };
        refused(&bench, &[&others, options, budget].concat(), mentions);
    }
}

#[test]
fn rows_that_a_later_stage_would_refuse_are_refused_first() {
    let bench = bench();
    let long = json!({"prompt": "word ".repeat(400), "completion": "x"}).to_string();
    for (split, rows, mentions) in [
        ("train", "{\"prompt\": \"a\"}", &["train.jsonl", "line 1", "completion"][..]),
        (
            "validation",
            "{\"prompt\": \"a\", \"completion\": \"\"}",
            &["validation.jsonl", "line 1"],
        ),
        ("test", "", &["test.jsonl", "no rows"]),
        ("test", &long, &["test.jsonl", "none of 1 rows"]),
        ("validation", &long, &["validation.jsonl", "none of 1 rows"]),
    ] {
        let file = bench.path(&format!("app/{split}.jsonl"));
        let whole = fs::read(&file).expect("rows");
        fs::write(&file, rows).expect("written");
        refused(&bench, &quick(&["--budget=0.5"]), &[&["app home"], mentions].concat());
        fs::write(&file, whole).expect("written");
    }
    fs::write(bench.path("all.jsonl"), format!("{long}\n").repeat(3)).expect("written");
    let single = QUICK.map(|arg| if arg == "--app=home=app" { "--app=all.jsonl" } else { arg });
    refused(&bench, &[&single[..], &["--budget=0.5"]].concat(), &["all.jsonl"]);
}

#[test]
fn outputs_that_a_later_stage_would_refuse_are_refused_first() {
    let bench = bench();
    let run = |mentions: &[&str]| refused(&bench, &quick(&["--budget=0.5"]), mentions);
    let folders = ["proxy", "proxy-refit", "adapter", "mounted", "full-adapter", "random/mounted"];
    for folder in folders {
        let dir = bench.path("out/home").join(folder);
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("thesis.txt"), "precious").expect("written");
        run(&[folder, "did not write"]);
        fs::remove_dir_all(bench.path("out")).expect("removed");
    }
    for file in ["scores.json", "plan.json", "stages/tune.json", "random/plan.json"] {
        fs::create_dir_all(bench.path("out/home").join(file)).expect("made");
        run(&[file, "is a directory"]);
        fs::remove_dir_all(bench.path("out")).expect("removed");
    }
    for file in ["scores.json", "plan.json", "random/plan.json"] {
        for text in ["my notes", "{\"version\": 1, \"layers\": {}}"] {
            fs::create_dir_all(bench.path("out/home/random")).expect("made");
            fs::write(bench.path("out/home").join(file), text).expect("written");
            run(&[file, "did not write", "move it away"]);
            fs::remove_dir_all(bench.path("out")).expect("removed");
        }
    }
    fs::create_dir_all(bench.path("out/home")).expect("made");
    fs::write(bench.path("out/home/adapter.checkpoint"), "mine").expect("written");
    run(&["adapter.checkpoint", "no checkpoint"]);
    fs::remove_dir_all(bench.path("out/home")).expect("removed");

    for text in ["{\"apps\": [", "{\"apps\": [], \"notes\": \"mine\"}"] {
        fs::write(bench.path("out/report.json"), text).expect("written");
        run(&["report.json", "move it away"]);
    }
    fs::remove_dir_all(bench.path("out")).expect("removed");
    fs::write(bench.path("out"), "a file").expect("written");
    run(&["out"]);
}

#[cfg(unix)]
#[test]
fn output_directories_that_cannot_be_used_are_refused_first() {
    let bench = bench();
    std::os::unix::fs::symlink("nowhere", bench.path("dangling")).expect("linked");
    std::os::unix::fs::symlink("model", bench.path("linked")).expect("linked");
    fs::create_dir(bench.path("model/other")).expect("made");
    let foundation = ["the foundation's folder", "outside of model"];
    let rows = ["the folder of an app's rows", "outside of app"];
    let dangling = ["dangling is a link to nothing"];
    for (out, mentions) in [
        ("dangling", &dangling[..]),
        ("dangling/", &dangling),
        ("dangling/new", &dangling),
        ("model", &foundation),
        ("model/new", &foundation),
        ("model/other", &foundation),
        ("linked/new", &foundation),
        ("app", &rows),
        ("app/new/out", &rows),
    ] {
        for dry in [&[][..], &["--dry-run"]] {
            let others = QUICK.map(|arg| if arg == "out" { out } else { arg });
            refused(&bench, &[&others[..], &["--budget=0.5"], dry].concat(), mentions);
        }
    }
    // An app's directory is the foundation's.
    let args = QUICK.map(|arg| match arg {
        "out" => ".",
        "--app=home=app" => "--app=model=app",
        arg => arg,
    });
    refused(&bench, &[&args[..], &["--budget=0.5"]].concat(), &foundation);
    let args = args.map(|arg| if arg == "--app=model=app" { "--app=home=app" } else { arg });
    let run = bench.run(&[&args[..], &["--budget=0.5", "--dry-run"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

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

#[test]
fn a_directory_in_use_is_refused_at_once() {
    let bench = bench();
    let lock = TargetLock::new(&bench.path("out/report.json")).expect("locked");
    for options in [&["--budget=0.5"][..], &["--budget=0.5,0.75"]] {
        refused(&bench, &quick(options), &["another `litemoe customize` is at work in out"]);
    }
    let dry = bench.run(&quick(&["--budget=0.5", "--dry-run"]));
    assert_eq!(dry.code, 0, "{}", dry.stderr);
    drop(lock);
    let run = bench.run(&quick(&["--budget=0.5", "--no-controls", "--scale=0"]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("not mounted, as asked"), "{}", run.stdout);
    let names = fs::read_dir(bench.path("out")).expect("a folder").flatten();
    let hidden = names.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "a lock is left");
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
    let needs = |dtype: &str| {
        let args = [&tune[..], &["--batch=4", "--expert-rank=2", "--out=new/adapter"]].concat();
        let told = bench.json(&[&args[..], &["--dry-run", "--dtype", dtype]].concat());
        told["memory_bytes"].as_i64().expect("bytes")
    };
    // Of 759 296 bytes of weights in f32, 236 544 remain in q4; 131 072 are dequantised at once.
    let less = needs("f32") - needs("q4");
    assert!((100_000..700_000).contains(&less), "{less}");
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

//! What is refused before the first stage of `customize`.

use std::fs;

use litemoe_files::TargetLock;
use serde_json::json;

use super::{QUICK, bench, quick, refused};

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

//! `--progress`, `-v` and `--quiet`: what standard error has.

use serde_json::{Value, json};

use crate::bench::{Bench, Run};

const TUNE: [&str; 14] = [
    "tune",
    "model",
    "rows.jsonl",
    "--validation",
    "rows.jsonl",
    "--steps",
    "6",
    "--batch",
    "4",
    "--validate-every",
    "3",
    "--validation-rows",
    "8",
    "--json",
];

fn tune(bench: &Bench, options: &[&str]) -> Run {
    let mut command = bench.command(&[&TUNE[..], options].concat());
    command.env_remove("LITEMOE_LOG").env_remove("RUST_LOG");
    let run = Run::of(&command.output().expect("the binary runs"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    run
}

fn events(stderr: &str) -> Vec<Value> {
    let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    stderr.lines().map(event).collect()
}

/// The value without what differs from run to run.
fn lasting(mut event: Value) -> Value {
    let elapsed = event.as_object_mut().expect("an object").remove("elapsed");
    assert!(elapsed.is_none_or(|elapsed| elapsed.as_f64().is_some_and(|time| time >= 0.0)));
    event
}

#[test]
fn events_tell_every_validation_with_its_losses() {
    let bench = Bench::new();
    let run = tune(&bench, &["--progress", "json"]);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let notes_and_counts = |event: &Value| event["event"] != "note" && event["event"] != "progress";
    let found: Vec<Value> =
        events(&run.stderr).into_iter().filter(notes_and_counts).map(lasting).collect();
    let names: Vec<_> =
        found.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    assert_eq!(names, ["begin", "validation", "validation", "end"], "{}", run.stderr);
    let begin = json!({"event": "begin", "stage": "tune", "activity": "tuning", "done": 0,
                       "total": 6, "unit": "steps"});
    assert_eq!(found[0], begin);
    for (event, step) in [(&found[1], 3), (&found[2], 6)] {
        assert_eq!((&event["done"], &event["total"]), (&json!(step), &json!(6)));
        assert_eq!(event["loss"], report["losses"][step - 1], "{event}");
    }
    let best = report["best_step"].as_u64().expect("a step");
    assert_eq!(found[best as usize / 3]["validation_loss"], report["validation_loss"]);
    assert_eq!(found[best as usize / 3]["validation_accuracy"], report["validation_accuracy"]);
    assert_eq!((&found[3]["done"], &found[3]["loss"]), (&json!(6), &report["losses"][5]));
}

#[test]
fn off_a_terminal_each_validation_and_activity_is_a_line() {
    let bench = Bench::new();
    for options in [&[][..], &["--progress", "plain"], &["--progress", "auto"]] {
        let run = tune(&bench, options);
        let lines: Vec<&str> =
            run.stderr.lines().filter(|line| line.starts_with("tuning: ")).collect();
        assert_eq!(lines.len(), 2, "{}", run.stderr);
        for (line, step) in lines.iter().zip(["3 of 6 steps, loss ", "6 of 6 steps, loss "]) {
            assert!(line.contains(step) && line.contains(", validation "), "{line}");
        }
    }
    let eval = bench.run(&["eval", "model", "rows.jsonl"]);
    let told = |line: &&str| line.starts_with("evaluating: 40 of 40 rows, ");
    assert_eq!(eval.stderr.lines().filter(told).count(), 1, "{}", eval.stderr);
}

#[test]
fn without_progress_notes_remain_and_quiet_leaves_nothing() {
    let bench = Bench::new();
    for form in ["none", "bar"] {
        let run = tune(&bench, &["--progress", form]);
        assert!(!run.stderr.contains("tuning"), "{form}: {}", run.stderr);
        assert!(run.stderr.contains("rows"), "the note on few rows: {}", run.stderr);
    }
    assert_eq!(tune(&bench, &["--quiet"]).stderr, "");
    assert_eq!(bench.run(&["inspect", "model", "-q", "-v"]).code, 2);
}

#[test]
fn errors_and_notes_are_events_too() {
    let bench = Bench::new();
    let run = bench.run(&["eval", "model", "none.jsonl", "--progress", "json"]);
    assert_eq!(run.code, 1);
    let last = events(&run.stderr).pop().expect("an event");
    assert_eq!((&last["event"], &last["stage"]), (&json!("error"), &json!("eval")));
    assert!(last["message"].as_str().expect("text").contains("none.jsonl"), "{last}");
    let run = bench.run(&["eval", "model", "rows.jsonl", "--progress", "json"]);
    let first = &events(&run.stderr)[0];
    assert_eq!(first["event"], "note");
    assert!(first["message"].as_str().expect("text").contains("40 test rows are few"), "{first}");
}

#[test]
fn verbose_logs_more_and_the_environment_decides() {
    let bench = Bench::new();
    let stderr = |options: &[&str], filter: Option<&str>| {
        let mut command = bench.command(&[&TUNE[..], options].concat());
        command
            .env_remove("LITEMOE_LOG")
            .env_remove("RUST_LOG")
            .envs(filter.map(|it| ("RUST_LOG", it)));
        Run::of(&command.output().expect("the binary runs")).stderr
    };
    let (plain, once, twice) = (stderr(&[], None), stderr(&["-v"], None), stderr(&["-vv"], None));
    for (line, counts) in [
        ("opened a model", [0, 1, 1]),
        ("computed a fingerprint", [0, 1, 1]),
        ("read rows", [0, 2, 2]),
        ("validated", [0, 2, 2]),
        ("stepped", [0, 0, 6]),
    ] {
        let found = [&plain, &once, &twice].map(|text| text.matches(line).count());
        assert_eq!(found, counts, "{line}: {twice}");
    }
    assert!(!stderr(&["-vv"], Some("off")).contains("opened"));
    assert!(stderr(&[], Some("litemoe=info")).contains("opened a model"));
}

#[cfg(feature = "embedded")]
#[test]
fn stages_of_customize_name_app_and_stage() {
    let bench = Bench::new();
    let app = bench.path("app");
    std::fs::create_dir(&app).expect("made");
    for split in ["train", "validation", "test"] {
        std::fs::copy(bench.path("rows.jsonl"), app.join(split).with_extension("jsonl"))
            .expect("copied");
    }
    let args = [
        "customize",
        "--foundation",
        "model",
        "--app",
        "app",
        "--budget",
        "0.5",
        "--steps",
        "2",
        "--validate-every",
        "2",
        "--no-controls",
        "--progress",
        "json",
        "--json",
    ];
    let run = bench.run(&args);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let events = events(&run.stderr);
    let stages = |name: &str| -> Vec<String> {
        let of = events.iter().filter(|event| event["event"] == name);
        of.map(|event| event["stage"].as_str().expect("a stage").to_owned()).collect()
    };
    let all = stages("stage_begin");
    assert!(all.contains(&"score".to_owned()) && all.contains(&"tune".to_owned()), "{all:?}");
    assert_eq!(stages("stage_end"), all);
    assert_eq!(stages("validation"), ["tune"]);
    let inside = |event: &&Value| event["stage"] != "customize";
    assert!(events.iter().filter(inside).all(|event| event["app"] == "app"), "{}", run.stderr);
    let again = bench.run(&args);
    let ends =
        self::events(&again.stderr).into_iter().filter(|event| event["event"] == "stage_end");
    assert!(ends.map(|event| event["skipped"].clone()).all(|skipped| skipped == true));
}

//! `customize` on the embedded foundation and app, with few steps and rows.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, edit_json};

pub(crate) const QUICK: [&str; 12] = [
    "customize",
    "--steps",
    "4",
    "--batch",
    "4",
    "--validate-every",
    "2",
    "--validation-rows",
    "8",
    "--calibration-rows",
    "32",
    "--limit=12",
];

#[test]
fn customize_without_arguments_reports_every_number_and_skips_what_is_done() {
    let bench = Bench::new();
    let quick = [&QUICK[..], &["--guard-rows", "8"]].concat();
    let report = bench.json(&quick);
    let app = &report["apps"][0];
    assert_eq!(app["app"], "home");
    for model in
        ["foundation", "proxy", "tuned_proxy", "mounted", "full", "random_proxy", "random_mounted"]
    {
        assert!(app[model]["perplexity"].as_f64().expect("a number") > 1.0, "{model}");
        assert!(
            (0.0..=1.0).contains(&app[model]["accuracy"].as_f64().expect("a number")),
            "{model}"
        );
    }
    let (all, kept) = (&app["expert_bytes"]["foundation"], &app["expert_bytes"]["proxy"]);
    assert!(kept.as_f64().expect("bytes") <= 0.33 * all.as_f64().expect("bytes"));
    assert!(app["peak_bytes"]["tune_full"].as_u64() > app["peak_bytes"]["tune_proxy"].as_u64());

    let again = bench.run(&quick);
    assert!(
        again.stderr.lines().filter(|line| line.contains("skipped")).count() >= 15,
        "{}",
        again.stderr
    );
    assert!(!again.stderr.contains("tuning"), "{}", again.stderr);
    assert!(
        again.stdout.contains("mounted on the foundation") || again.stdout.contains("guard"),
        "{}",
        again.stdout
    );

    let run = bench.json(&["inspect", "litemoe-out"]);
    assert_eq!((&run["kind"], &run["apps"][0]), (&"run".into(), app));
    let run = bench.run(&["inspect", "litemoe-out/report.json"]);
    let table = again.stdout.split("everything is in").next().expect("a table");
    assert!(run.stdout.starts_with(table), "{}", run.stdout);
    let times: f64 =
        app["seconds"].as_object().expect("stages").values().filter_map(Value::as_f64).sum();
    let total =
        run.stdout.lines().find(|line| line.trim_start().starts_with("all ")).expect("a total");
    assert!(total.contains(&format!("{times:.1}")), "{total}, not {times}");

    fs::write(bench.path("litemoe-out/home/proxy/config.json"), "{}").expect("written");
    let mended = bench.run(&quick);
    assert!(
        mended.stderr.contains("writing the proxy"),
        "a damaged output is made again: {}",
        mended.stderr
    );

    let alone = bench.json(&[&quick[..], &["--no-controls", "--out", "alone"]].concat());
    let alone = &alone["apps"][0];
    assert_eq!(alone["mounted"], app["mounted"]);
    for control in ["full", "random_proxy", "random_mounted", "recovery_perplexity"] {
        assert!(alone[control].is_null(), "{control}");
    }
    assert!(!bench.path("alone/home/full-adapter").exists());

    let random = ["--no-controls", "--out", "alone", "--score", "random"];
    let random = bench.json(&[&quick[..], &random].concat());
    assert!(random["apps"][0]["tuned_proxy"]["perplexity"].is_f64());
}

#[test]
fn a_changed_record_is_not_trusted() {
    let bench = Bench::new();
    let quick = [&QUICK[..], &["--guard-rows", "8"]].concat();
    bench.json(&quick);
    let record = bench.path("litemoe-out/home/stages/full.json");
    edit_json(&record, |record| record["key"] = "0".into());
    let again = bench.run(&quick);
    assert_eq!(again.code, 0);
    assert!(
        again.stderr.lines().any(|l| l.starts_with("full ") && !l.contains("skipped")),
        "{}",
        again.stderr
    );
}

/// The state that a kill between a stage's end and its record leaves.
#[test]
fn a_stage_that_finished_before_a_kill_is_not_run_again() {
    let bench = Bench::new();
    let quick = [&QUICK[..], &["--guard-rows", "8", "--no-controls"]].concat();
    let whole = bench.json(&quick);
    let stages = bench.path("litemoe-out/home/stages");
    let unrecorded = |name: &str| {
        let record = stages.join(format!("{name}.json"));
        let read: Value =
            serde_json::from_slice(&fs::read(&record).expect("a record")).expect("JSON");
        let write = |kind: &str, text: &str| {
            fs::write(stages.join(format!("{name}.{kind}")), text).expect("written");
        };
        write("begun", read["key"].as_str().expect("a key"));
        write("report", &read["report"].to_string());
        fs::remove_file(record).expect("removed");
    };
    let says = |text: &str| {
        let run = bench.run(&quick);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains(text), "{}", run.stderr);
    };
    for name in ["score", "extract", "tune", "tuned_proxy"] {
        unrecorded(name);
        says(&format!("{name:<13} finished, not run again"));
        says(&format!("{name:<13} unchanged, skipped"));
    }
    assert_eq!(bench.json(&quick)["apps"][0]["mounted"], whole["apps"][0]["mounted"]);
    unrecorded("score");
    fs::write(stages.join("score.begun"), "another key").expect("written");
    says("score         scoring");
    unrecorded("score");
    let file = fs::File::options().write(true).open(bench.path("litemoe-out/home/scores.json"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    file.and_then(|file| file.set_modified(later)).expect("a modification time");
    says("score         scoring");
    let left: Vec<_> = fs::read_dir(&stages).expect("a folder").flatten().collect();
    let is_left = |name: &str| [".begun", ".job", ".report"].iter().any(|end| name.ends_with(end));
    assert!(!left.iter().any(|file| is_left(&file.file_name().to_string_lossy())), "{left:?}");
}

#[cfg(unix)]
#[test]
fn a_killed_loop_goes_on_and_two_loops_do_not_mix() {
    use std::fs::File;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let bench = Bench::new();
    let long = ["--steps", "4000", "--validate-every", "1", "--no-controls"];
    let args = [
        &[
            "customize",
            "--batch",
            "2",
            "--validation-rows",
            "2",
            "--calibration-rows",
            "32",
            "--limit=12",
            "--guard-rows",
            "8",
        ][..],
        &long,
    ]
    .concat();
    let mut command = bench.command(&args);
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let checkpoint = bench.path("litemoe-out/home/adapter.checkpoint");
    while !checkpoint.exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    let other = bench.run(&args);
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("another `litemoe customize`"), "{}", other.stderr);

    // On Linux the stage ends with its parent; elsewhere the whole process group is killed.
    let victim = match cfg!(target_os = "linux") {
        true => child.id().to_string(),
        false => format!("-{}", child.id()),
    };
    let killed = Command::new("kill").args(["-9", "--", &victim]).status().expect("kill runs");
    assert!(killed.success());
    child.wait().expect("ended");
    let lock = File::open(bench.path("litemoe-out/home/stages/lock")).expect("it is there");
    let deadline = Instant::now() + Duration::from_secs(30);
    while lock.try_lock().is_err() {
        assert!(Instant::now() < deadline, "the stage goes on without its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
    lock.unlock().expect("it is ours");
    let mut command = bench.command(&args);
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut again = command.spawn().expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        again.stderr.take().expect("its messages"),
    ));
    assert!(lines.any(|line| line.expect("a line").contains("resumed after")), "it began again");
    let group = format!("-{}", again.id());
    Command::new("kill").args(["-9", "--", &group]).status().expect("kill runs");
    again.wait().expect("ended");
}

/// What a dry run tells of memory, against what the stages then need.
#[cfg(target_os = "linux")]
#[test]
fn a_forecast_of_memory_is_near_the_measured_peaks() {
    let bench = Bench::new();
    let args = [
        "customize",
        "--steps=2",
        "--warmup=1",
        "--validation-rows=60",
        "--limit=100",
        "--guard-rows=60",
        "--scale=1",
        "--routing=restricted",
    ];
    let dry = bench.json(&[&args[..], &["--dry-run"]].concat());
    assert!(!bench.path("litemoe-out").exists());
    bench.json(&args);
    let stages = dry["apps"][0]["stages"].as_array().expect("a list");
    let mut ratios = Vec::new();
    for stage in
        stages.iter().filter(|stage| !stage["name"].as_str().is_some_and(|it| it.ends_with("plan")))
    {
        let name = stage["name"].as_str().expect("a name");
        let record = bench.read(&format!("litemoe-out/home/stages/{name}.json"));
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        let measured = record["report"]["peak_bytes"]["anonymous"].as_f64().expect("bytes");
        let forecast = stage["memory_bytes"].as_f64().expect("bytes");
        ratios.push((name, forecast / measured));
        assert!(stage["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{name}");
    }
    assert_eq!(ratios.len(), 15);
    let is_near = |(_, ratio): &(&str, f64)| (0.7..=1.5).contains(ratio);
    assert!(ratios.iter().all(is_near), "forecast by measured: {ratios:?}");
}

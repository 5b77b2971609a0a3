//! Inputs that change while a command reads them: nothing is written.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use crate::bench::{Bench, Run};

/// Longest time of a run.
const LONG: Duration = Duration::from_secs(120);

/// Gives a file another modification time; its contents are the same.
fn touch(path: &Path) {
    let file = File::options().write(true).open(path).expect("a file");
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).expect("a modification time");
}

/// Runs a command that reads one of its files, `fed`, from a pipe, and changes another file when it does.
fn run_while_changing(bench: &Bench, args: &[&str], fed: &str, change: impl FnOnce()) -> Run {
    let (path, contents) = (bench.path(fed), bench.read(fed));
    fs::remove_file(&path).expect("removed");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    let mut command = bench.command(args);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("the binary runs");
    let (begin, mut pipe) = (Instant::now(), None);
    while pipe.is_none() {
        let ended = running.try_wait().expect("asked");
        assert!(
            ended.is_none() && begin.elapsed() < LONG,
            "{args:?} does not read {fed}: {ended:?}"
        );
        // Opened once the command opens it.
        let flags = OFlags::NONBLOCK.bits() as i32;
        pipe = File::options().write(true).custom_flags(flags).open(&path).ok();
        sleep(Duration::from_millis(1));
    }
    let mut pipe = pipe.expect("a pipe");
    change();
    pipe.write_all(&contents).expect("it is read");
    drop(pipe);
    let run = Run::of(&running.wait_with_output().expect("it ends"));
    fs::remove_file(&path).expect("removed");
    fs::write(&path, contents).expect("written");
    run
}

#[test]
fn nothing_is_written_when_an_input_changed() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let mount =
        ["mount", "model", "adapter", "--plan", "plan.json", "--scale", "1", "--routing", "full"];
    bench.json(&mount);
    fs::write(bench.path("labels.json"), r#"["return 1", "return 2"]"#).expect("written");
    let template = "model/chat_template.jinja";
    let tune = ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl", "--steps", "2"];
    let refit = ["--refit", "low-rank", "--data", "rows.jsonl"];
    let predictions = ["eval", "model", "rows.jsonl", "--predictions", "new"];
    for shard in ["1/2", "2/2"] {
        let out = format!("{}.json", &shard[..1]);
        bench.json(&["score", "model", "rows.jsonl", "--shard", shard, "--out", &out]);
    }
    let cases: [(&[&str], &str, &str); 19] = [
        (&["score", "model", "rows.jsonl", "--out", "new"], template, "model/model.safetensors"),
        (&["score", "model", "rows.jsonl", "--out", "new"], template, "rows.jsonl"),
        (
            &["plan", "model", "scores.json", "--budget", "0.5", "--out", "new"],
            "scores.json",
            "model/config.json",
        ),
        (
            &["extract", "model", "plan.json", "--out", "new"],
            "plan.json",
            "model/model.safetensors",
        ),
        (
            &[&["extract", "model", "plan.json", "--out", "new"], &refit[..]].concat(),
            "plan.json",
            "rows.jsonl",
        ),
        (
            &[&["extract", "model", "plan.json", "--out", "new", "--refit", "full"], &refit[2..]]
                .concat(),
            "plan.json",
            "model/tokenizer.json",
        ),
        (&[&tune[..], &["--out", "new"]].concat(), template, "model/tokenizer.json"),
        (
            &[&mount[..], &["--out", "new"]].concat(),
            "plan.json",
            "adapter/adapter_model.safetensors",
        ),
        (&["eval", "model", "rows.jsonl", "--json"], template, "rows.jsonl"),
        (&predictions, template, "model/config.json"),
        (&["score", "merge", "1.json", "2.json", "--out", "new"], "2.json", "1.json"),
        (
            &["export", "gguf-lora", "mounted", "--model", "model", "--out", "new"],
            "mounted/litemoe.json",
            "mounted/adapter_model.safetensors",
        ),
        (
            &["export", "vllm", "model", "--adapter", "home=mounted", "--out", "new"],
            template,
            "mounted/adapter_model.safetensors",
        ),
        (
            &["fuse", "model", "mounted", "--out", "new"],
            "mounted/litemoe.json",
            "model/model.safetensors",
        ),
        (&["generate", "model", "--prompt", "add 1 and 2"], template, "model/model.safetensors"),
        (
            &["generate", "model", "--prompt", "add 1 and 2", "--adapter", "mounted"],
            template,
            "mounted/adapter_model.safetensors",
        ),
        (&["chat", "model"], template, "model/tokenizer.json"),
        (&["chat", "model", "--adapter", "mounted"], template, "mounted/litemoe.json"),
        (
            &["logits", "model", "--ids", "5,17", "--adapter", "mounted"],
            template,
            "model/config.json",
        ),
    ];
    for (args, fed, changed) in cases {
        let before = bench.names();
        let run = run_while_changing(&bench, args, fed, || touch(&bench.path(changed)));
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}: {}", run.stderr);
        let error = format!("{changed} changed while it was read, so nothing was written");
        assert!(run.stderr.contains(&error), "{args:?}: {}", run.stderr);
        let mut left = bench.names();
        left.retain(|name| !before.contains(name));
        // A tuning run can go on from its checkpoint.
        let expected: &[&str] = if args[0] == "tune" { &["new.checkpoint"] } else { &[] };
        assert_eq!(left, expected, "{args:?}");
        let run = run_while_changing(&bench, args, fed, || ());
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
        for name in bench.names().iter().filter(|name| name.starts_with("new")) {
            let path = bench.path(name);
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("removed");
        }
    }
}

/// A server whose files change while it loads them does not listen; one that has loaded them goes on.
#[test]
fn a_server_does_not_start_from_files_that_changed() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let serve = ["serve", "model", "--adapter", "a=adapter", "--port", "0"];
    let template = "model/chat_template.jinja";
    for changed in ["model/model.safetensors", "adapter/adapter_model.safetensors"] {
        let run = run_while_changing(&bench, &serve, template, || touch(&bench.path(changed)));
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("{changed} changed while")), "{}", run.stderr);
    }
}

/// Splits of `app/`, and the loop on them.
fn customize(bench: &Bench) -> [&'static str; 16] {
    for name in ["train", "valid", "test"] {
        fs::create_dir_all(bench.path("app")).expect("a folder");
        fs::copy(bench.path("rows.jsonl"), bench.path(&format!("app/{name}.jsonl")))
            .expect("copied");
    }
    [
        "customize",
        "--foundation",
        "model",
        "--app",
        "app",
        "--out",
        "out",
        "--budget",
        "0.5",
        "--steps",
        "2",
        "--batch",
        "4",
        "--limit",
        "8",
        "--no-controls",
    ]
}

/// The stage reads other rows than those that its parent hashed.
#[test]
fn results_of_a_replaced_input_are_not_kept_for_the_first() {
    let bench = Bench::new();
    let customize = customize(&bench);
    let eval = ["eval", "model", "app/test.jsonl", "--limit", "8"];
    let perplexity = bench.json(&eval)["perplexity"].clone();
    let other = "{\"prompt\": \"subtract\", \"completion\": \"a - b\"}\n".repeat(40);
    fs::write(bench.path("other.jsonl"), other).expect("written");

    let (test, begun) =
        (bench.path("app/test.jsonl"), bench.path("out/app/stages/foundation.begun"));
    let mut command = bench.command(&customize);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().expect("the binary runs");
    let begin = Instant::now();
    while !begun.exists() {
        assert!(begin.elapsed() < LONG, "no stage begins");
        std::thread::yield_now();
    }
    fs::rename(&test, bench.path("first.jsonl")).expect("moved");
    fs::rename(bench.path("other.jsonl"), &test).expect("moved");
    let run = Run::of(&running.wait_with_output().expect("it ends"));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains("app/test.jsonl"), "{}", run.stderr);

    fs::rename(bench.path("first.jsonl"), &test).expect("moved");
    let again = bench.json(&customize);
    assert_eq!(again["apps"][0]["foundation"]["perplexity"], perplexity);
}

#[test]
fn a_weight_file_that_is_replaced_between_the_stages_of_customize_is_noticed() {
    let bench = Bench::new();
    let customize = customize(&bench);
    let mut command = bench.command(&customize);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().expect("the binary runs");
    let (begin, record) = (Instant::now(), bench.path("out/app/stages/score.json"));
    while !record.exists() {
        assert!(begin.elapsed() < LONG, "no stage ended");
        sleep(Duration::from_millis(2));
    }
    let weights = bench.path("model/model.safetensors");
    fs::copy(&weights, bench.path("copy")).expect("copied");
    fs::rename(bench.path("copy"), &weights).expect("replaced");
    let run = Run::of(&running.wait_with_output().expect("it ends"));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(
        run.stderr.contains("model/model.safetensors changed while it was read"),
        "{}",
        run.stderr
    );
    assert!(!bench.path("out/report.json").exists());
    let again = bench.run(&customize);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("score         unchanged, skipped"), "{}", again.stderr);
}

//! Rows of other shapes in the commands, and the rows of an app.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, copy_dir};

/// Bench with the embedded foundation, which has a chat template, in `model/`.
fn foundation() -> Bench {
    let bench = Bench::new();
    fs::remove_dir_all(bench.path("model")).expect("removed");
    copy_dir(&litemoe_fixtures::foundation_dir(), &bench.path("model"));
    bench
}

fn write(bench: &Bench, name: &str, rows: impl IntoIterator<Item = Value>) {
    let lines: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
    fs::write(bench.path(name), lines).expect("written");
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[test]
fn the_same_rows_in_other_shapes_and_formats_give_the_same_scores() {
    let bench = foundation();
    let texts = [("turn on the lights", "lights.on()"), ("hi\n", "hello, \"you\""), ("a", "b")];
    write(
        &bench,
        "pairs.jsonl",
        texts.map(|(prompt, completion)| json!({"prompt": prompt, "completion": completion})),
    );
    write(
        &bench,
        "messages.jsonl",
        texts
            .map(|(prompt, completion)| json!({"messages": [user(prompt), assistant(completion)]})),
    );
    write(&bench, "lists.jsonl", texts.map(|(prompt, completion)| json!({"prompt": [user(prompt)], "completion": [assistant(completion)]})));
    let array = json!(
        texts.map(|(prompt, completion)| json!({"instruction": prompt, "output": completion}))
    );
    fs::write(bench.path("array.json"), format!("{array:#}").replace('\n', "\r\n"))
        .expect("written");
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let cells =
        texts.map(|(prompt, completion)| format!("{},{}\n", quoted(prompt), quoted(completion)));
    fs::write(bench.path("table.csv"), format!("\u{feff}prompt,completion\n{}", cells.concat()))
        .expect("written");
    let scores = |rows: &str| {
        bench.json(&["score", "model", rows]);
        bench.read("scores.json")
    };
    let pairs = scores("pairs.jsonl");
    for rows in ["messages.jsonl", "lists.jsonl", "array.json", "table.csv"] {
        assert!(scores(rows) == pairs, "{rows}");
    }
}

#[test]
fn the_loss_covers_all_turns_or_the_last() {
    let bench = foundation();
    let turns = [user("hi"), assistant("hello you"), user("lights"), assistant("lights.on()")];
    write(&bench, "chat.jsonl", [json!({"messages": turns})]);
    let last = json!({"messages": [turns[0], {"role": "assistant", "content": "hello you", "weight": 0}, turns[2], turns[3]]});
    write(&bench, "weighted.jsonl", [last]);
    let eval = |rows: &str, options: &[&str]| {
        let report = bench.json(&[&["eval", "model", rows], options].concat());
        (report["tokens"].as_u64().expect("a number"), report["perplexity"].to_string())
    };
    let (all, last) = (eval("chat.jsonl", &[]), eval("chat.jsonl", &["--loss", "last-turn"]));
    assert_eq!(all, eval("chat.jsonl", &["--loss", "all-turns"]));
    assert_eq!(last, eval("weighted.jsonl", &[]));
    assert!(all.0 > last.0 + 2, "{all:?} {last:?}");
    let run = bench.run(&["eval", "model", "chat.jsonl", "--loss", "some"]);
    assert!(run.code == 2 && run.stderr.contains("all-turns or last-turn"), "{}", run.stderr);
    let predictions = ["--predictions", "said.jsonl", "--max-new", "4"];
    bench.json(&[&["eval", "model", "chat.jsonl"], &predictions[..]].concat());
    let said: Value = serde_json::from_slice(&bench.read("said.jsonl")).expect("a line of JSON");
    assert_eq!((&said["prompt"], &said["expected"]), (&json!(turns[..3]), &json!("lights.on()")));
    write(&bench, "text.jsonl", [json!({"text": "turn on the lights"})]);
    assert!(eval("text.jsonl", &[]).0 >= 4);
    let run = bench.run(&["eval", "model", "text.jsonl", "--text"]);
    assert!(run.code == 1 && run.stderr.contains("row 1 is running text"), "{}", run.stderr);
}

const QUICK: [&str; 14] = [
    "customize",
    "--foundation",
    "model",
    "--no-controls",
    "--budget=0.5",
    "--steps=4",
    "--batch=4",
    "--validate-every=2",
    "--validation-rows=4",
    "--calibration-rows=16",
    "--limit=4",
    "--guard-rows=4",
    "--out",
    "out",
];

#[test]
fn an_app_of_one_file_is_split_by_the_seed() {
    let bench = Bench::new();
    let app = ["--app", "rows.jsonl"];
    bench.json(&[&QUICK[..], &app].concat());
    let split = |name: &str| {
        let bytes = bench.read(&format!("out/apps/rows/{name}.jsonl"));
        String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let parts = ["train", "validation", "test"].map(split);
    assert_eq!(parts.each_ref().map(Vec::len), [32, 4, 4]);
    let mut all = parts.concat();
    all.sort();
    let rows = String::from_utf8(bench.read("rows.jsonl")).expect("text");
    let compact = |line: &str| serde_json::from_str::<Value>(line).expect("JSON").to_string();
    let mut given: Vec<String> = rows.lines().map(compact).collect();
    given.sort();
    assert_eq!(all, given);
    let again = bench.run(&[&QUICK[..], &app].concat());
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!again.stderr.contains("tuning"), "{}", again.stderr);
    assert!(again.stderr.contains("4 test rows are few"), "{}", again.stderr);

    write(
        &bench,
        "two.jsonl",
        [json!({"prompt": "a", "completion": "b"}), json!({"prompt": "a", "completion": "c"})],
    );
    let run = bench.run(&[&QUICK[..], &["--app", "two.jsonl"]].concat());
    assert!(run.code == 1 && run.stderr.contains("its 2 rows are too few"), "{}", run.stderr);
}

#[test]
fn splits_of_an_app_have_other_names_and_are_all_read_before_it_starts() {
    let bench = Bench::new();
    fs::create_dir(bench.path("app")).expect("made");
    bench.write_rows("app/train.jsonl", 20);
    let table = |n: usize| (0..n).map(|i| format!("number {i},return {i}\n")).collect::<String>();
    fs::write(bench.path("app/val.csv"), format!("prompt,completion\n{}", table(4)))
        .expect("written");
    let args = [&QUICK[..], &["--app", "app"]].concat();
    let run = bench.run(&args);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("app has no test rows: there is no file test with .jsonl"),
        "{}",
        run.stderr
    );
    fs::write(bench.path("app/test.json"), "[{\"prompt\": \"a\",\n\"completion\": \"\"}]")
        .expect("written");
    let run = bench.run(&args);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("line 1: empty completion"), "{}", run.stderr);
    assert!(!bench.path("out").exists(), "something was computed");
    fs::write(bench.path("app/test.json"), "[{\"prompt\": \"a\",\n\"completion\": \"b\"}]")
        .expect("written");
    let report = bench.json(&args);
    assert_eq!(report["apps"][0]["rows"], 1);
}

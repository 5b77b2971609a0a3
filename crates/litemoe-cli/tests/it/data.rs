//! `litemoe data check`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Bench, copy_dir};

fn pair(prompt: &str, completion: &str) -> Value {
    json!({"prompt": prompt, "completion": completion})
}

fn write(path: &Path, rows: impl IntoIterator<Item = Value>) {
    let lines: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, lines).expect("written");
}

fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = Value> {
    range.map(|i| pair(&format!("prompt {i}"), "completion"))
}

#[test]
fn a_directory_of_fine_splits_has_nothing_unusual() {
    let bench = Bench::new();
    write(&bench.path("app/train.jsonl"), numbered(0..60));
    write(&bench.path("app/dev.jsonl"), numbered(60..80));
    let csv = (80..140).map(|i| format!("prompt {i},\"a, b\"\n")).collect::<String>();
    fs::write(bench.path("app/test.csv"), format!("prompt,completion\n{csv}")).expect("written");
    fs::write(bench.path("app/meta.json"), "{}").expect("written");
    let report = bench.json(&["data", "check", "app"]);
    assert_eq!((&report["warnings"], &report["errors"]), (&json!([]), &json!([])));
    let files = report["files"].as_array().expect("a list");
    let found = |key: &str| files.iter().map(|file| file[key].clone()).collect::<Vec<_>>();
    assert_eq!(found("split"), ["train", "validation", "test"]);
    assert_eq!(found("rows"), [60, 20, 60]);
    assert_eq!(found("format"), ["JSON Lines", "JSON Lines", "CSV"]);
    assert_eq!(found("shape"), ["prompt_completion"; 3]);
    let lengths = &files[0]["lengths"];
    assert_eq!(lengths["unit"], "characters");
    // "prompt 7completion" has 18 characters, "prompt 59completion" 19.
    assert_eq!((&lengths["min"], &lengths["max"]), (&json!(18), &json!(19)));
    assert_eq!(lengths["histogram"], json!([{"up_to": 32, "rows": 60}]));
    let text = bench.run(&["data", "check", "app"]);
    assert_eq!(text.code, 0);
    for line in
        ["train: 60 rows, JSON Lines, prompt_completion, app", "nothing unusual", "median 19"]
    {
        assert!(text.stdout.contains(line), "{line}: {}", text.stdout);
    }
}

#[test]
fn duplicates_conflicts_and_overlaps_are_counted_with_their_lines() {
    let bench = Bench::new();
    let repeated =
        [pair("prompt 3", "completion"), pair("prompt 4", "other"), pair("prompt 3", "completion")];
    write(&bench.path("app/train.jsonl"), numbered(0..60).chain(repeated));
    write(&bench.path("app/validation.jsonl"), numbered(100..120));
    let shared = [pair("prompt 9", "completion"), pair("prompt 110", "other")];
    write(&bench.path("app/test.jsonl"), numbered(200..260).chain(shared));
    let report = bench.json(&["data", "check", "app"]);
    let train = &report["files"][0];
    assert_eq!((&train["duplicates"], &train["first_duplicate"]), (&json!(2), &json!([61, 4])));
    assert_eq!((&train["conflicts"], &train["first_conflict"]), (&json!(1), &json!([62, 5])));
    let overlap = |splits: [&str; 2], rows: usize, prompts: usize, first: [usize; 2]| json!({"splits": splits, "rows": rows, "prompts": prompts, "of": 62, "first": first});
    assert_eq!(
        report["overlaps"],
        json!([
            overlap(["train", "test"], 1, 0, [61, 10]),
            overlap(["validation", "test"], 0, 1, [62, 11])
        ])
    );
    let warnings = report["warnings"].to_string();
    for warning in [
        "2 rows are duplicates; the first is line 61, as line 4",
        "1 row has an earlier row's prompt, but another completion",
        "1 of 62 test rows are train rows too",
    ] {
        assert!(warnings.contains(warning), "{warning}: {warnings}");
    }
    let tuned = bench.run(&[
        "tune",
        "model",
        "app/train.jsonl",
        "--validation",
        "app/train.jsonl",
        "--steps",
        "0",
    ]);
    assert!(
        tuned.stderr.contains("warning: ")
            && tuned.stderr.contains("63 of 63 validation rows are train rows too"),
        "{}",
        tuned.stderr
    );
}

#[test]
fn a_pair_and_the_same_conversation_are_one_row() {
    let bench = Bench::new();
    let chat = |prompt: &str, completion: &str| json!({"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]});
    write(&bench.path("app/train.jsonl"), numbered(0..60));
    let others = (100..158).map(|i| chat(&format!("prompt {i}"), "completion"));
    let shared = [chat("prompt 9", "completion"), chat("prompt 10", "another")];
    write(&bench.path("app/test.jsonl"), others.chain(shared));
    let report = bench.json(&["data", "check", "app"]);
    let overlap =
        json!({"splits": ["train", "test"], "rows": 1, "prompts": 1, "of": 60, "first": [59, 10]});
    assert_eq!(report["overlaps"], json!([overlap]));
}

#[test]
fn with_a_model_rows_that_are_all_too_long_are_an_error() {
    let bench = Bench::new();
    write(&bench.path("long.jsonl"), numbered(0..60));
    let arguments = ["data", "check", "long.jsonl", "--model", "model", "--max-tokens", "2"];
    let run = bench.run(&arguments);
    assert_eq!(run.code, 1);
    let message = "long.jsonl: none of 60 rows is within 2 tokens";
    assert!(run.stderr.contains(message), "{}", run.stderr);
}

#[test]
fn with_a_model_lengths_are_tokens_and_special_tokens_are_found() {
    let bench = Bench::new();
    fs::remove_dir_all(bench.path("model")).expect("removed");
    copy_dir(&litemoe_fixtures::foundation_dir(), &bench.path("model"));
    let rows = [
        pair("a<|user|>b", "c"),
        pair(&"a ".repeat(40), "<|as"),
        pair("a<|", "user|><|endoftext|>"),
    ];
    write(&bench.path("few.jsonl"), rows);
    let report =
        bench.json(&["data", "check", "few.jsonl", "--model", "model", "--max-tokens", "20"]);
    let file = &report["files"][0];
    assert_eq!(file["special_tokens"], json!({"<|endoftext|>": 1, "<|user|>": 1}));
    assert_eq!((&file["too_long"], &file["max_tokens"]), (&json!(1), &json!(20)));
    assert_eq!((&file["lengths"]["unit"], &file["split"]), (&json!("tokens"), &Value::Null));
    // <|user|> a <|assistant|> " " <|user|> <|endoftext|> <|endoftext|>
    assert!(file["lengths"]["min"].as_u64().expect("a number") <= 9, "{file}");
    let warnings = report["warnings"].to_string();
    for warning in
        ["3 rows are few", "1 of 3 rows are longer than 20 tokens", "special token <|user|>"]
    {
        assert!(warnings.contains(warning), "{warning}: {warnings}");
    }
    let drawn = bench.json(&["data", "check", "few.jsonl", "--model", "model", "--limit", "2"]);
    let histogram = drawn["files"][0]["lengths"]["histogram"].as_array().expect("bins").clone();
    let n_drawn: u64 = histogram.iter().filter_map(|bin| bin["rows"].as_u64()).sum();
    assert_eq!((n_drawn, &drawn["files"][0]["rows"]), (2, &json!(3)));
}

#[test]
fn what_a_command_would_refuse_is_an_error_for_each_file() {
    let bench = Bench::new();
    write(&bench.path("app/train.jsonl"), [pair("a", "b"), pair("a", " ")]);
    fs::write(bench.path("app/test.json"), b"PAR1").expect("written");
    let run = bench.run(&["data", "check", "app", "--json"]);
    assert_eq!(run.code, 1);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let errors = report["errors"].as_array().expect("a list");
    assert_eq!(errors[0]["line"], 2);
    assert!(
        errors[0]["message"].as_str().expect("text").contains("empty completion"),
        "{errors:?}"
    );
    assert!(errors[1]["message"].as_str().expect("text").contains("a Parquet file"), "{errors:?}");
    assert!(run.stderr.contains("2 errors; the first is: "), "{}", run.stderr);

    let turns = ["user", "assistant", "user", "assistant"]
        .map(|role| json!({"role": role, "content": "a"}));
    write(&bench.path("chat.jsonl"), [json!({"messages": turns}), json!({"messages": turns[..2]})]);
    assert_eq!(bench.run(&["data", "check", "chat.jsonl"]).code, 0);
    fs::remove_file(bench.path("model/chat_template.jinja")).expect("removed");
    let run = bench.run(&["data", "check", "chat.jsonl", "--model", "model"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("chat.jsonl, line 1: "), "{}", run.stderr);
}

#[test]
fn names_of_splits_are_clear() {
    let bench = Bench::new();
    fs::create_dir(bench.path("app")).expect("made");
    let empty = bench.run(&["data", "check", "app"]);
    assert!(empty.code == 1 && empty.stderr.contains("app has no rows"), "{}", empty.stderr);
    for (one, two) in [("val.jsonl", "valid.jsonl"), ("test.csv", "test.json")] {
        write(&bench.path("app").join(one), numbered(0..3));
        write(&bench.path("app").join(two), numbered(0..3));
        let run = bench.run(&["data", "check", "app"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(one) && run.stderr.contains(two), "{}", run.stderr);
        fs::remove_file(bench.path("app").join(two)).expect("removed");
    }
}

#[test]
fn shown_rows_are_what_the_model_reads_and_learns() {
    let bench = Bench::new();
    let roles = ["system", "user", "assistant", "user", "assistant"];
    let turns = roles.map(|role| json!({"role": role, "content": format!("a {role} é")}));
    write(&bench.path("chat.jsonl"), [json!({"messages": turns}), json!({"messages": turns})]);
    let args = ["data", "check", "chat.jsonl", "--model", "model", "--show", "1"];
    let report = bench.json(&args);
    let shown = report["files"][0]["shown"].as_array().expect("rows");
    assert_eq!((shown.len(), &shown[0]["line"]), (1, &json!(1)));
    let runs = shown[0]["runs"].as_array().expect("runs");
    let parts: Vec<(&str, &str)> = runs
        .iter()
        .map(|run| (run["part"].as_str().expect("a name"), run["text"].as_str().expect("text")))
        .collect();
    let begin = "<|im_start|>system\na system é<|im_end|>\n<|im_start|>user\na user é<|im_end|>\n<|im_start|>assistant\n";
    let next = "\n<|im_start|>user\na user é<|im_end|>\n<|im_start|>assistant\n";
    let learnt = "a assistant é<|im_end|>";
    assert_eq!(parts, [("context", begin), ("loss", learnt), ("context", next), ("loss", learnt)]);
    let count = |part: &str| -> usize {
        let of = runs.iter().filter(|run| run["part"] == part);
        of.map(|run| run["ids"].as_array().expect("ids").len()).sum()
    };
    assert_eq!(shown[0]["in_loss"], count("loss"));
    assert_eq!(shown[0]["tokens"], count("loss") + count("context"));
    let text = bench.run(&args).stdout;
    assert!(text.contains(&format!("    context {begin:?}\n")), "{text}");
    let last = bench.json(&[&args[..], &["--loss", "last-turn"]].concat());
    assert_eq!(last["files"][0]["shown"][0]["runs"].as_array().expect("runs").len(), 2);
    assert!(bench.json(&args[..5])["files"][0].get("shown").is_none());
    assert_eq!(bench.run(&["data", "check", "chat.jsonl", "--show", "1"]).code, 2);
}

#[test]
fn one_row_is_told_in_the_singular() {
    let bench = Bench::new();
    write(&bench.path("one.jsonl"), numbered(0..1));
    let run = bench.run(&["data", "check", "one.jsonl"]);
    assert!(run.stdout.starts_with("rows: 1 row, JSON Lines"), "{}", run.stdout);
}

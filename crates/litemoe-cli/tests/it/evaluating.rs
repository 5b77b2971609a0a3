//! `litemoe eval`: metrics, drawn rows, text metrics and label accuracy.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, copy_dir};

/// Bench with the embedded foundation in `model/` and rows of tasks that it knows.
fn foundation() -> Bench {
    let bench = Bench::new();
    fs::remove_dir_all(bench.path("model")).expect("removed");
    copy_dir(&litemoe_fixtures::foundation_dir(), &bench.path("model"));
    let rows = [
        (
            "Voice command: wake me up at seven tomorrow\nCall:",
            "alarm_set(time=\"seven\", date=\"tomorrow\")",
        ),
        ("Voice command: play some jazz\nCall:", "play_music(genre=\"jazz\")"),
        ("Voice command: what is the weather in paris\nCall:", "weather_query(place=\"paris\")"),
        ("Home request: dim the lights\nCall:", "lights.dim()"),
        ("Problem: Tom has 3 apples and buys 4 more. How many has he?\nSolution:", "#### 7"),
    ];
    let label = |completion: &str| completion.split(['_', '.']).next().map(str::to_owned);
    let row = |&(prompt, completion): &(&str, &str)| json!({"prompt": prompt, "completion": completion, "label": label(completion)});
    write_rows(&bench, "rows.jsonl", rows.iter().map(row));
    bench
}

fn write_rows(bench: &Bench, name: &str, rows: impl Iterator<Item = Value>) {
    let lines: String = rows.map(|row| format!("{row}\n")).collect();
    fs::write(bench.path(name), lines).expect("rows are written");
}

fn lines(bench: &Bench, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(bench.path(name)).expect("the file is there");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Report of `eval`, and its predictions.
fn predicted(bench: &Bench, args: &[&str]) -> (Value, Vec<Value>) {
    let eval = ["eval", "model", "rows.jsonl", "--predictions", "out/predictions.jsonl"];
    let printed = bench.json(&[&eval, args].concat());
    (printed, lines(bench, "out/predictions.jsonl"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn assert_close(x: f64, y: f64) {
    assert!((x - y).abs() < 1e-9 * y.abs().max(1.0), "{x} is not {y}");
}

#[test]
fn predictions_are_the_rows_that_the_numbers_are_made_of() {
    let bench = foundation();
    let (printed, predictions) = predicted(&bench, &["--max-new", "24"]);
    let rows = lines(&bench, "rows.jsonl");
    assert_eq!(predictions.len(), rows.len());
    for (place, (prediction, row)) in predictions.iter().zip(&rows).enumerate() {
        assert_eq!(prediction["row"], json!(place + 1));
        for (key, of) in [("prompt", "prompt"), ("expected", "completion"), ("label", "label")] {
            assert_eq!(prediction[key], row[of]);
        }
        assert!(prediction["references"].is_null() && prediction["chosen"].is_null());
        let prompt = row["prompt"].as_str().expect("a text");
        let said = bench.json(&["generate", "model", "--max-tokens", "24", "--prompt", prompt]);
        assert_eq!(prediction["got"], said["text"]);
        assert_eq!(prediction["exact"], json!(prediction["got"] == prediction["expected"]));
    }
    let sum =
        |key: &str| predictions.iter().map(|prediction| number(&prediction[key])).sum::<f64>();
    let exact = predictions.iter().filter(|prediction| prediction["exact"] == true).count();
    assert!(0 < exact && exact < rows.len(), "{exact} rows are exact: nothing is shown");
    assert_close(number(&printed["accuracy"]), exact as f64 / rows.len() as f64);
    assert_close(number(&printed["perplexity"]), (sum("nats") / sum("tokens")).exp());
    assert_eq!(number(&printed["tokens"]), sum("tokens"));
    let [low, high] = [0, 1].map(|end| number(&printed["accuracy_95"][end]));
    assert!(low < number(&printed["accuracy"]) && number(&printed["accuracy"]) < high);
    // In `rows.jsonl` every row has its own label.
    assert_eq!(printed["macro_accuracy"], printed["accuracy"]);
    assert_eq!(printed["by_label"]["alarm"], json!({"rows": 1, "accuracy": 1.0}));
}

#[test]
fn references_are_right_too() {
    let bench = foundation();
    let (without, predictions) = predicted(&bench, &["--max-new", "16"]);
    assert!(without["any_reference"].is_null());
    assert!(number(&without["chrf"]) < 1.0);
    let row = |prediction: &Value| json!({"prompt": prediction["prompt"], "completion": "?", "references": ["no", prediction["got"]]});
    write_rows(&bench, "rows.jsonl", predictions.iter().map(row));
    let eval = ["eval", "model", "rows.jsonl", "--max-new", "16"];
    let text = bench.json(&[&eval[..], &["--text"]].concat());
    for (key, expected) in
        [("accuracy", 0.0), ("any_reference", 1.0), ("first_word", 0.0), ("last_word", 0.0)]
    {
        assert_eq!(number(&text[key]), expected, "{key}");
    }
    assert_close(number(&text["chrf"]), 1.0);
    assert!(text["by_label"].is_null() && text["macro_accuracy"].is_null());
    let printed = bench.run(&[&eval[..], &["--text"]].concat()).stdout;
    assert!(printed.contains("accuracy 0.0 % (95 %: 0.0 to 52.2 %), perplexity"), "{printed}");
    assert!(printed.contains("any reference 100.0 %, first word 0.0 %"), "{printed}");
    assert!(bench.json(&eval)["chrf"].is_null(), "no texts were asked for");
}

#[test]
fn the_seed_draws_the_same_rows_for_every_model() {
    let bench = Bench::new();
    bench.extract(&[]);
    let row = |i| json!({"prompt": "add 3 ".repeat(i), "completion": "return 3"});
    write_rows(&bench, "rows.jsonl", (0..40).map(row));
    let drawn = |model: &str, args: &[&str]| -> Vec<Value> {
        let eval = ["eval", model, "rows.jsonl", "--limit", "10", "--max-new", "1"];
        bench.json(&[&eval[..], &["--predictions", "drawn.jsonl"], args].concat());
        lines(&bench, "drawn.jsonl").iter().map(|prediction| prediction["row"].clone()).collect()
    };
    let rows = drawn("model", &["--seed", "1"]);
    assert_eq!((rows.len(), rows.is_sorted_by_key(Value::as_u64)), (10, true));
    assert_eq!(drawn("proxy", &["--seed", "1"]), rows);
    // Rows that are too long are not replaced by others.
    let short = drawn("model", &["--seed", "1", "--max-tokens", "99"]);
    assert!((1..10).contains(&short.len()), "{}", short.len());
    assert!(short.iter().all(|row| rows.contains(row)));
    let others = drawn("model", &["--seed", "2"]);
    assert_ne!(others, rows);
    assert_eq!(drawn("model", &[]), drawn("model", &["--seed", "0"]));
    assert_ne!(drawn("model", &[]), (1..=10).map(Value::from).collect::<Vec<_>>());
    let all = bench.json(&["eval", "model", "rows.jsonl", "--limit", "400", "--seed", "5"]);
    assert_eq!(all, {
        let mut whole = bench.json(&["eval", "model", "rows.jsonl"]);
        for key in ["seconds", "peak_bytes"] {
            whole[key] = all[key].clone();
        }
        whole
    });
}

#[test]
fn the_chosen_label_is_the_most_probable_completion() {
    let bench = foundation();
    let labels = ["alarm_set()", "play_music(genre=\"jazz\")", "weather_query()"];
    fs::write(bench.path("labels.json"), json!(labels).to_string()).expect("written");
    let prompts: Vec<Value> =
        lines(&bench, "rows.jsonl").iter().map(|row| row["prompt"].clone()).take(3).collect();
    let rows = |label: &str| -> Vec<Value> {
        prompts
            .iter()
            .map(|prompt| json!({"prompt": prompt, "completion": label, "label": "one"}))
            .collect()
    };
    // Brute force: evaluates each label as the completion of every row.
    let nats: Vec<Vec<f64>> = labels
        .iter()
        .map(|label| {
            write_rows(&bench, "rows.jsonl", rows(label).into_iter());
            let (_, predictions) = predicted(&bench, &["--max-new", "1"]);
            predictions.iter().map(|prediction| number(&prediction["nats"])).collect()
        })
        .collect();
    let best = |place: usize| {
        (0..3)
            .min_by(|&x: &usize, &y: &usize| nats[x][place].total_cmp(&nats[y][place]))
            .expect("a label")
    };
    let (printed, predictions) = predicted(&bench, &["--max-new", "1", "--labels", "labels.json"]);
    let chosen: Vec<&Value> = predictions.iter().map(|prediction| &prediction["chosen"]).collect();
    assert_eq!(chosen, (0..3).map(|place| labels[best(place)]).collect::<Vec<_>>());
    let right = (0..3).filter(|&place| best(place) == 2).count();
    assert!(0 < right && right < 3, "{right} choices are right: nothing is shown");
    assert_close(number(&printed["label_accuracy"]), right as f64 / 3.0);
    assert_eq!(printed["macro_label_accuracy"], printed["label_accuracy"]);
    assert_eq!(printed["by_label"]["one"]["label_accuracy"], printed["label_accuracy"]);
    let printed = bench.run(&["eval", "model", "rows.jsonl", "--labels", "labels.json"]).stdout;
    assert!(
        printed.contains("\nlabel accuracy") && printed.contains("mean over 1 labels"),
        "{printed}"
    );
}

#[test]
fn an_encoder_decoder_answers_and_chooses() {
    let bench = Bench::of("switch_transformers");
    let labels: Vec<String> = (0..7).map(|i| format!("return {i}")).collect();
    fs::write(bench.path("labels.json"), json!(labels).to_string()).expect("written");
    let (printed, predictions) =
        predicted(&bench, &["--limit=4", "--max-new=3", "--labels", "labels.json"]);
    assert_eq!((predictions.len(), &printed["rows"]), (4, &json!(4)));
    for prediction in predictions {
        let prompt = prediction["prompt"].as_str().expect("a text");
        let said = bench.json(&["generate", "model", "--max-tokens", "3", "--prompt", prompt]);
        assert_eq!(prediction["got"], said["text"]);
        assert!(labels.iter().any(|label| prediction["chosen"] == **label));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_run() {
    let bench = Bench::new();
    let rows = bench.read("rows.jsonl");
    for (labels, reason) in [
        ("[\"return 0\"]", "nothing to choose"),
        ("[\"return 0\", \"return 0 \"]", "twice"),
        ("{\"return 0\": 1}", "labels.json"),
        (
            "[\"return 0\", \"return 1\"]",
            "row 3: its completion \"return 2\" is none of the labels",
        ),
    ] {
        fs::write(bench.path("labels.json"), labels).expect("written");
        let run = bench.run(&["eval", "model", "rows.jsonl", "--labels", "labels.json"]);
        assert_eq!(run.code, 1, "{labels}");
        assert!(run.stderr.contains(reason), "{labels}: {}", run.stderr);
    }
    for target in ["rows.jsonl", "./model/../rows.jsonl", "model", "labels.json"] {
        let eval =
            ["eval", "model", "rows.jsonl", "--labels", "labels.json", "--predictions", target];
        let run = bench.run(&eval);
        assert_eq!(run.code, 1, "{target}");
        assert!(run.stderr.contains("would replace"), "{target}: {}", run.stderr);
    }
    assert_eq!(bench.read("rows.jsonl"), rows);
}

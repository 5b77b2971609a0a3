//! `litemoe inspect` of records: scores, plans, similarities, adapters and runs.

use std::collections::BTreeSet;
use std::fs;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::bench::{Bench, Run, edit_json};

/// Runs `inspect` in a UTF-8 locale of 80 columns.
fn inspect(bench: &Bench, args: &[&str]) -> Run {
    let mut command = bench.command(&[&["inspect"], args].concat());
    command.env("LC_ALL", "C.UTF-8").env("COLUMNS", "80");
    Run::of(&command.output().expect("the binary runs"))
}

#[track_caller]
fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    let run = inspect(bench, args);
    assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|value| value.as_f64().expect("a number"))
        .collect()
}

/// Indices of the `n` largest values.
fn largest(values: &[f64], n: usize) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&x, &y| values[y].total_cmp(&values[x]));
    order.into_iter().take(n).collect()
}

/// A sum that `scores.json` holds, of each expert of a layer.
fn counts(bench: &Bench, file: &str, layer: &str) -> Vec<f64> {
    let scores: Value = serde_json::from_slice(&bench.read(file)).expect("JSON");
    numbers(&scores["layers"][layer]["count"])
}

#[test]
fn scores_are_shares_of_a_layer() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl", "--similarity", "affinity"]);
    let found = bench.json(&["inspect", "scores.json", "--score", "frequency"]);
    assert_eq!(
        (&found["kind"], &found["rows"], &found["score"]),
        (&json!("scores"), &json!(40), &json!("frequency"))
    );
    assert_eq!(found["similarities"], json!(["affinity"]));
    let lines = inspect(&bench, &["scores.json", "--score", "frequency"]).stdout;
    let digits = inspect(&bench, &["scores.json", "--score", "frequency", "--ascii"]).stdout;
    for layer in ["0", "1"] {
        let counts = counts(&bench, "scores.json", layer);
        let total: f64 = counts.iter().sum();
        let shares: Vec<f64> = counts.iter().map(|count| count / total).collect();
        let entropy: f64 = shares.iter().filter(|s| **s > 0.0).map(|s| -s * s.ln()).sum();
        let view = &found["layers"][layer];
        let near = |found: &Value, expected: f64| {
            (found.as_f64().expect("a number") - expected).abs() < 1e-9
        };
        assert!(
            near(&view["entropy"], entropy) && near(&view["effective"], entropy.exp()),
            "{view}"
        );
        assert!(numbers(&view["shares"]).iter().zip(&shares).all(|(x, y)| (x - y).abs() < 1e-12));
        assert!(near(&found["effective"]["frequency"][layer], entropy.exp()));
        assert_eq!((&view["n_experts"], &view["top_k"]), (&json!(8), &json!(2)));
        // Eight experts: 1 is the mean in eighths.
        let shade = |share: &f64| match share * 8.0 {
            0.0 => '·',
            x if x < 0.5 => '░',
            x if x < 1.0 => '▒',
            x if x < 2.0 => '▓',
            _ => '█',
        };
        let digit = |share: &f64| match *share {
            0.0 => '.',
            share => char::from_digit((share * 16.0).min(9.0) as u32, 10).expect("a digit"),
        };
        let margin = format!("layer {layer}, {:.1} of 8", entropy.exp());
        let line = format!("{margin:<30}{}", shares.iter().map(shade).collect::<String>());
        assert!(lines.lines().any(|found| found == line), "`{line}` is not in:\n{lines}");
        let line = format!("{margin:<30}{}", shares.iter().map(digit).collect::<String>());
        assert!(digits.lines().any(|found| found == line), "`{line}` is not in:\n{digits}");
    }
    let random = bench.json(&["inspect", "scores.json", "--score", "random"]);
    assert_ne!(random["layers"], found["layers"]);
    edit_json(&bench.path("scores.json"), |scores| {
        scores["layers"]["1"]["gate_norm"] = json!([-1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    });
    let run = inspect(&bench, &["scores.json"]);
    assert!(run.code == 1 && run.stderr.starts_with("error: "), "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_plan_is_a_map_of_kept_merged_and_pruned() {
    let bench = Bench::new();
    bench.extract(&["--merge", "litemoe", "--cold", "0.5"]);
    let plan: Value = serde_json::from_slice(&bench.read("plan.json")).expect("JSON");
    let found = bench.json(&["inspect", "plan.json", "--model", "model"]);
    assert_eq!(found["bytes"], json!({"kept": 196_608, "removed": 196_608}));
    assert_eq!((&found["kept"], &found["options"]), (&json!(8), &plan["options"]));
    let lines = inspect(&bench, &["plan.json"]).stdout;
    let letters = inspect(&bench, &["plan.json", "--ascii"]).stdout;
    for layer in ["0", "1"] {
        let mut cells = vec!['.'; 8];
        for group in plan["layers"][layer]["groups"].as_array().expect("groups") {
            let members = group["members"].as_array().cloned().unwrap_or_default();
            let at = |value: &Value| value.as_u64().expect("an index") as usize;
            cells[at(&group["host"])] = if members.is_empty() { 'k' } else { 'c' };
            members.iter().for_each(|member| cells[at(&member["expert"])] = 'm');
        }
        let cells: String = cells.into_iter().collect();
        let line = format!("{:<30}{cells}", format!("layer {layer}, 4 of 8"));
        assert!(letters.lines().any(|found| found == line), "`{line}` is not in:\n{letters}");
        let blocks = cells.replace('k', "▒").replace('c', "█").replace('m', "░").replace('.', "·");
        assert!(lines.contains(&blocks), "{lines}");
    }
    let router = format!("router       {}", plan["options"]["router"].as_str().expect("a name"));
    for line in
        [router.as_str(), "method       merging (litemoe): similarity affinity, cold below 0.5"]
    {
        assert!(lines.contains(line), "`{line}` is not in:\n{lines}");
    }
    let hash = found["hash"].as_str().expect("a hash");
    let planned = bench.json(&["plan", "model", "scores.json", "--budget", "0.5"]);
    let pruned = bench.json(&["inspect", "plan.json"]);
    assert_eq!((&pruned["hash"], &pruned["bytes"]), (&planned["hash"], &Value::Null));
    assert_ne!(planned["hash"], *hash);
    let similarities = bench.json(&["inspect", "similarity.json"]);
    assert_eq!(similarities["similarity"], "affinity");
    let matrix: Value = serde_json::from_slice(&bench.read("similarity.json")).expect("JSON");
    let rows: Vec<Vec<f64>> =
        matrix["layers"]["0"].as_array().expect("rows").iter().map(numbers).collect();
    let pairs: Vec<f64> =
        (0..8).flat_map(|i| (i + 1..8).map(move |j| (i, j))).map(|(i, j)| rows[i][j]).collect();
    let mean = similarities["layers"]["0"]["mean"].as_f64().expect("a mean");
    assert!((mean - pairs.iter().sum::<f64>() / 28.0).abs() < 1e-12);
    assert!(inspect(&bench, &["similarity.json"]).stdout.contains("closest pair"));
}

#[test]
fn two_records_of_one_foundation_overlap() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl"]);
    fs::rename(bench.path("scores.json"), bench.path("a.json")).expect("renamed");
    let other: String =
        (0..20).map(|i| format!("{{\"text\": \"once upon {i} times\"}}\n")).collect();
    fs::write(bench.path("other.jsonl"), other).expect("rows");
    bench.json(&["score", "model", "other.jsonl", "--out", "b.json"]);
    let args = ["inspect", "a.json", "b.json", "--score", "frequency", "--budget", "0.5"];
    let found = bench.json(&args);
    let (mut both, mut either, mut cosines) = (0, 0, 0.0);
    for layer in ["0", "1"] {
        let [a, b] = ["a.json", "b.json"].map(|file| counts(&bench, file, layer));
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        let (a, b) = (largest(&a, 4), largest(&b, 4));
        let view = &found["layers"][layer];
        assert_eq!(view["both"], json!(a.intersection(&b).collect::<Vec<_>>()));
        assert_eq!(view["first_only"], json!(a.difference(&b).collect::<Vec<_>>()));
        assert!((view["cosine"].as_f64().expect("a number") - cosine).abs() < 1e-9);
        both += a.intersection(&b).count();
        either += a.union(&b).count();
        cosines += cosine;
    }
    assert_eq!(found["jaccard"].as_f64(), Some(both as f64 / either as f64));
    assert!((found["cosine"].as_f64().expect("a number") - cosines / 2.0).abs() < 1e-9);
    for scores in ["a", "b"] {
        let (from, to) = (format!("{scores}.json"), format!("{scores}-plan.json"));
        let options = ["--budget", "0.5", "--score", "frequency"];
        bench.json(&[&["plan", "model", &from, "--out", &to][..], &options].concat());
    }
    let plans = bench.json(&["inspect", "a-plan.json", "b-plan.json"]);
    assert_eq!((&plans["jaccard"], &plans["cosine"]), (&found["jaccard"], &Value::Null));
    assert_eq!(plans["layers"]["1"]["both"], found["layers"]["1"]["both"]);
    let same = bench.json(&["inspect", "a.json", "a.json"]);
    assert_eq!(same["jaccard"], 1.0);
    let drawn = inspect(&bench, &["a-plan.json", "b-plan.json", "--ascii"]).stdout;
    let cell = |expert: u64| {
        let has = |key: &str| {
            plans["layers"]["0"][key].as_array().expect("a list").contains(&json!(expert))
        };
        match (has("both"), has("first_only"), has("second_only")) {
            (true, ..) => '#',
            (_, true, _) => 'A',
            (_, _, true) => 'B',
            _ => '.',
        }
    };
    assert!(drawn.contains(&(0..8).map(cell).collect::<String>()), "{drawn}");
    refused(&bench, &["a.json", "a-plan.json"], &["a.json is scores", "a-plan.json is a plan"]);
    refused(&bench, &["a.json", "b.json", "--budget", "4KiB"], &["give a share"]);
    refused(&bench, &["model", "model"], &["only scores and plans"]);
    edit_json(&bench.path("b.json"), |scores| scores["fingerprint"] = json!("0123"));
    refused(&bench, &["a.json", "b.json"], &["b.json of 0123", "one foundation"]);
}

/// Frobenius norm of B·A in f64, from a PEFT file.
fn norm(bytes: &[u8], module: &str) -> f64 {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let matrix = |which: &str| {
        let tensor = file
            .tensor(&format!("base_model.model.{module}.lora_{which}.weight"))
            .expect("a matrix");
        let values =
            tensor.data().as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
        (values.collect::<Vec<f64>>(), tensor.shape().to_vec())
    };
    let ((a, a_shape), (b, b_shape)) = (matrix("A"), matrix("B"));
    let (rank, d_in, d_out) = (a_shape[0], a_shape[1], b_shape[0]);
    let entry =
        |i: usize, j: usize| (0..rank).map(|r| b[i * rank + r] * a[r * d_in + j]).sum::<f64>();
    (0..d_out)
        .flat_map(|i| (0..d_in).map(move |j| (i, j)))
        .map(|(i, j)| entry(i, j).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[test]
fn an_adapter_is_shown_with_and_without_its_model() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune(
        "proxy",
        "adapter",
        &["--plan", "plan.json", "--targets", "attention", "--rank", "4", "--alpha", "8"],
    );
    let found = bench.json(&["inspect", "adapter", "--model", "proxy"]);
    assert_eq!((&found["peft_type"], &found["fit"]["fits"]), (&json!("LORA"), &json!(true)));
    let modules = found["modules"].as_array().expect("modules");
    // Query, key, value and output in two blocks of width 64, with keys and values of 32.
    assert_eq!(modules.len(), 8);
    assert_eq!(found["parameters"], 2 * 4 * (64 + 64 + 2 * (64 + 32) + 64 + 64));
    let bytes = bench.read("adapter/adapter_model.safetensors");
    let mut of_layer = 0.0;
    for module in modules {
        let path = module["path"].as_str().expect("a path");
        let expected = 2.0 * norm(&bytes, path);
        let norm = module["norm"].as_f64().expect("a number");
        assert!(
            expected > 0.0 && (norm / expected - 1.0).abs() < 1e-6,
            "{path}: {norm}, not {expected}"
        );
        assert_eq!(
            (&module["rank"], &module["alpha"], &module["scale"]),
            (&json!(4), &json!(8.0), &json!(2.0))
        );
        if path.contains("layers.1") {
            of_layer += norm * norm;
        }
    }
    let layer = found["layers"]["1"]["norm"].as_f64().expect("a number");
    assert!((layer - of_layer.sqrt()).abs() < 1e-9);
    assert_eq!((&found["zero"], &found["record"]["mount"]), (&json!([]), &Value::Null));
    let other = bench.json(&["inspect", "adapter", "--model", "model"]);
    assert_eq!(other["fit"]["fits"], true, "attention has the same sites in the foundation");
    let mount = ["mount", "model", "adapter", "--plan", "plan.json", "--validation", "rows.jsonl"];
    bench.json(
        &[&mount[..], &["--routing", "restricted", "--scale", "0.5", "--out", "mounted"]].concat(),
    );
    let run = inspect(&bench, &["mounted", "--ascii"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for line in [
        "adapter      LITEMOE_LORA",
        "mounted      routing restricted, scale 0.5",
        "model.layers.#.self_attn.q_proj",
    ] {
        assert!(run.stdout.contains(line), "`{line}` is not in:\n{}", run.stdout);
    }
    let plan: Value = serde_json::from_slice(&bench.read("plan.json")).expect("JSON");
    let groups = plan["layers"]["0"]["groups"].as_array().expect("groups");
    let kept: Vec<u64> = groups.iter().filter_map(|group| group["host"].as_u64()).collect();
    let cells: String =
        (0..8).map(|expert| if kept.contains(&expert) { '#' } else { '.' }).collect();
    assert!(run.stdout.contains(&format!("{:<30}{cells}", "layer 0, 4 of 8")), "{}", run.stdout);
    bench.tune("model", "other", &["--targets", "experts"]);
    let strange = bench.json(&["inspect", "other", "--model", "proxy"]);
    assert_eq!(strange["fit"]["fits"], false);
    assert!(
        strange["fit"]["reason"].as_str().expect("a reason").contains("was made for the model")
    );
    assert!(inspect(&bench, &["other"]).stdout.contains("experts.#.down_proj"));
    // Adapters are published with the configuration of their base.
    fs::copy(bench.path("model/config.json"), bench.path("other/config.json")).expect("copied");
    assert_eq!(bench.json(&["inspect", "other"])["kind"], "adapter");
}

#[test]
fn other_things_are_named_for_what_they_are_not() {
    let bench = Bench::new();
    fs::create_dir(bench.path("empty")).expect("a folder");
    refused(&bench, &["empty"], &["empty", "adapter_config.json", "report.json"]);
    refused(&bench, &["rows.jsonl"], &["rows.jsonl", "not a JSON object"]);
    refused(&bench, &["model/config.json"], &["config.json", "its keys are"]);
    refused(&bench, &["model", "--model", "model"], &["--model is for an adapter or a plan"]);
    bench.extract(&[]);
    edit_json(&bench.path("plan.json"), |plan| plan["layers"]["0"]["n_experts"] = json!(u32::MAX));
    refused(&bench, &["plan.json"], &["plan.json", "layer 0", "nothing of expert 8"]);
    refused(&bench, &["scores.json", "--budget", "0.5"], &["--budget", "scores.json is scores"]);
    let unknown = inspect(&bench, &["scores.json", "--score", "size"]);
    assert_eq!(unknown.code, 2);
}

#[test]
fn an_adapter_that_was_changed_is_refused() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &["--targets", "attention", "--alpha", "8"]);
    let config = String::from_utf8(bench.read("adapter/adapter_config.json")).expect("text");
    let edited = config.replacen("\"lora_alpha\": 8", "\"lora_alpha\": 9", 1);
    assert_ne!(edited, config);
    let tensors = bench.read("adapter/adapter_model.safetensors");
    let mut flipped = tensors.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    for (name, whole, changed) in [
        ("adapter/adapter_config.json", config.as_bytes(), edited.as_bytes()),
        ("adapter/adapter_model.safetensors", &tensors[..], &flipped[..]),
    ] {
        fs::write(bench.path(name), changed).expect("written");
        refused(&bench, &["adapter"], &[name, "was changed or damaged"]);
        fs::write(bench.path(name), whole).expect("written");
        assert_eq!(bench.json(&["inspect", "adapter"])["kind"], "adapter");
    }
}

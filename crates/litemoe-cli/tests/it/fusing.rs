//! `litemoe fuse`: a checkpoint of foundation and adapter.

use std::fs;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::bench::Bench;

fn logits(bench: &Bench, model: &str, adapter: Option<&str>) -> Vec<f64> {
    let mut args = vec!["logits", model, "--ids", "5,17,300,44"];
    if let Some(adapter) = adapter {
        args.extend(["--adapter", adapter]);
    }
    let rows = bench.json(&args)["logits"].take();
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows).expect("numbers");
    rows.concat()
}

/// Largest difference, in units of the largest value or 1.
fn distance(x: &[f64], y: &[f64]) -> f64 {
    let unit = y.iter().fold(1.0f64, |unit, value| unit.max(value.abs()));
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / unit
}

fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    let run = bench.run(args);
    assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
    assert!(!bench.path("fused").exists());
}

#[test]
fn a_fused_checkpoint_answers_as_foundation_and_adapter() {
    // In f32, and in bf16, which rounds.
    for (name, bound) in [("qwen3_moe", 1e-5), ("granitemoe", 0.05)] {
        let bench = Bench::of(name);
        bench.tune(
            "model",
            "adapter",
            &["--targets", "attention,experts", "--learning-rate", "0.05"],
        );
        let fused = bench.json(&["fuse", "model", "adapter"]);
        let expected = logits(&bench, "model", Some("adapter"));
        let error = distance(&logits(&bench, "fused", None), &expected);
        assert!(error < bound, "{name}: {error}");
        assert!(distance(&logits(&bench, "model", None), &expected) > 1e-3, "{name}");
        assert!(fused["updated"].as_u64() > Some(8), "{fused}");
        assert!(fused["rounding"]["relative"].as_f64().expect("a number") < 0.1, "{fused}");
        assert!(fused["warning"].is_null(), "{fused}");
        let files = ["config.json", "tokenizer.json", "tokenizer_config.json"];
        assert!(files.iter().all(|file| {
            fs::read(bench.path("model").join(file)).ok()
                == fs::read(bench.path("fused").join(file)).ok()
        }));
        let run = bench.run(&["fuse", "model", "adapter"]);
        assert!(run.code == 0 && run.stdout.contains("rounding: "), "{}{}", run.stdout, run.stderr);
    }
}

#[test]
fn an_adapter_that_a_checkpoint_cannot_keep_is_refused() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "attention,experts"]);
    refused(&bench, &["fuse", "model", "adapter"], &["adapter", "cannot be fused with model"]);
    let mount = [
        "mount",
        "model",
        "adapter",
        "--plan",
        "plan.json",
        "--validation",
        "rows.jsonl",
        "--scale",
        "1",
    ];
    bench.json(&[&mount[..], &["--routing", "2", "--out", "routed"]].concat());
    refused(&bench, &["fuse", "model", "routed"], &["mounted with 2 routing", "--portable"]);
    refused(&bench, &["fuse", "proxy", "routed"], &["cannot be fused with proxy"]);
    refused(
        &bench,
        &["fuse", "model", "routed", "--out", "model"],
        &["would replace the input model"],
    );
    bench.json(&[&mount[..], &["--routing", "full", "--out", "full"]].concat());
    bench.json(&["fuse", "model", "full"]);
    let expected = logits(&bench, "model", Some("full"));
    assert!(distance(&logits(&bench, "fused", None), &expected) < 1e-5);
    // What was tuned on a plain proxy is fused with it.
    bench.json(&["fuse", "proxy", "adapter", "--out", "small"]);
    let expected = logits(&bench, "proxy", Some("adapter"));
    assert!(distance(&logits(&bench, "small", None), &expected) < 1e-5);
}

#[test]
fn mxfp4_experts_become_bf16_where_the_adapter_needs_it() {
    let bench = Bench::of("gpt_oss_mxfp4");
    for (targets, dequantised) in [("attention", false), ("experts", true)] {
        bench.tune("model", "adapter", &["--targets", targets, "--learning-rate", "0.05"]);
        let fused = bench.json(&["fuse", "model", "adapter"]);
        assert_eq!(fused["dequantised"], dequantised);
        let config: Value = serde_json::from_slice(&bench.read("fused/config.json")).expect("JSON");
        assert_eq!(config.get("quantization_config").is_none(), dequantised);
        let expected = logits(&bench, "model", Some("adapter"));
        let rounding = fused["rounding"]["relative"].as_f64().expect("a number");
        let error = distance(&logits(&bench, "fused", None), &expected);
        // The weights are bf16.
        assert!(error < 0.05 && rounding < 0.5, "{targets}: {error}, {rounding}");
    }
}

#[test]
fn an_update_that_rounding_loses_is_warned_about() {
    let bench = Bench::of("granitemoe");
    let options = ["--targets", "attention,experts", "--learning-rate", "1e-5"];
    bench.tune("model", "adapter", &options);
    let run = bench.run(&["fuse", "model", "adapter"]);
    assert!(run.stderr.contains("warning: rounding to the number formats"), "{}", run.stderr);
    let fused = bench.json(&["fuse", "model", "adapter"]);
    let relative = fused["rounding"]["relative"].as_f64().expect("a number");
    assert!(relative > 0.1, "{fused}");
    let warning = fused["warning"].as_str().expect("a warning");
    assert!(warning.contains(&format!("{relative:.2}")), "{warning}");
    let [before, after] =
        ["model", "fused"].map(|dir| bench.read(&format!("{dir}/model.safetensors")));
    let [before, after] =
        [&before, &after].map(|bytes| SafeTensors::deserialize(bytes).expect("safetensors"));
    let is_changed = |name: &str| {
        let data = |file: &SafeTensors<'_>| file.tensor(name).expect("a tensor").data().to_vec();
        data(&before) != data(&after)
    };
    let changed = before.names().into_iter().filter(|name| is_changed(name)).count();
    assert_eq!(fused["updated"], changed);
}

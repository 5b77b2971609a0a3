//! `--dtype`: packed weights.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::bench::{Bench, Run};
use crate::determinism::checkpointed;
use crate::families::FAMILIES;

/// Largest relative distance of all logits from those in f32, per format.
const BOUNDS: [(&str, f64); 3] = [("bf16", 0.02), ("q8", 0.06), ("q4", 0.5)];

fn logits(bench: &Bench, model: &Path, dtype: &str) -> Vec<f64> {
    let model = model.to_str().expect("UTF-8");
    let ids = "5,17,300,8,9,44,12,7,99,250,31,6";
    let mut args = vec!["logits", model, "--ids", ids, "--dtype", dtype];
    let config = std::fs::read_to_string(Path::new(model).join("config.json")).expect("a config");
    if config.contains("\"is_encoder_decoder\": true") {
        args.extend(["--decoder-ids", "0,4,8"]);
    }
    let found = bench.json(&args);
    let rows: Vec<Vec<f64>> = serde_json::from_value(found["logits"].clone()).expect("logits");
    rows.concat()
}

fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|it| it * it).sum::<f64>().sqrt();
    let differences = &mut found.iter().zip(expected).map(|(a, b)| a - b);
    norm(differences) / norm(&mut expected.iter().copied())
}

#[cfg(feature = "embedded")]
#[test]
fn a_trained_models_logits_are_near_those_in_f32() {
    let (bench, model) = (Bench::new(), litemoe_fixtures::foundation_dir());
    let expected = logits(&bench, &model, "f32");
    for (dtype, bound) in BOUNDS {
        let distance = distance(&logits(&bench, &model, dtype), &expected);
        assert!((1e-6..bound).contains(&distance), "{dtype}: {distance}");
    }
}

/// A random model's router has near-ties that rounding decides otherwise.
#[test]
fn every_family_has_every_format() {
    for model in FAMILIES.into_iter().flat_map(|(_, checkpoints)| checkpoints) {
        let bench = Bench::of(model);
        let expected = logits(&bench, &bench.path("model"), "f32");
        for (dtype, bound) in BOUNDS {
            let distance = distance(&logits(&bench, &bench.path("model"), dtype), &expected);
            assert!((1e-6..3. * bound).contains(&distance), "{model}, {dtype}: {distance}");
        }
    }
}

#[test]
fn tuning_mounting_and_evaluating_take_the_format() {
    let bench = Bench::new();
    bench.extract(&[]);
    for dtype in ["f32", "bf16", "q8", "q4"] {
        let options = ["--plan", "plan.json", "--dtype", dtype];
        let tuned = bench.tune("proxy", "adapter", &options);
        assert_eq!(tuned["losses"].as_array().map(Vec::len), Some(6), "{dtype}: {tuned}");
        let mount = [
            "mount",
            "model",
            "adapter",
            "--plan",
            "plan.json",
            "--out",
            "mounted",
            "--validation",
            "rows.jsonl",
        ];
        let mounted = bench.json(&[&mount[..], &["--dtype", dtype]].concat());
        let eval = ["eval", "model", "rows.jsonl", "--adapter", "mounted", "--dtype", dtype];
        let found = bench.json(&eval);
        assert!(found["loss"].is_number() || found["accuracy"].is_number(), "{dtype}: {found}");
        for report in [tuned, mounted, found] {
            assert_eq!(report["dtype"], dtype, "{report}");
        }
        expect_recorded(&bench, dtype);
    }
}

/// Perplexities are those of an evaluation of each format, and the adapter is mounted on both.
#[test]
fn divergence_is_from_the_model_in_the_reference_format() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("model", "adapter", &[]);
    let eval = |options: &[&str]| {
        let eval = ["eval", "model", "rows.jsonl", "--batch-tokens=100", "--cache-dtype=f32"];
        bench.json(&[&eval[..], options].concat())
    };
    for adapter in [&[][..], &["--adapter", "adapter"]] {
        let alone = |dtype| eval(&[adapter, &["--dtype", dtype]].concat());
        for (dtype, reference) in [("q4", "f32"), ("bf16", "q8"), ("f32", "bf16")] {
            let options = ["--dtype", dtype, "--reference-dtype", reference];
            let found = eval(&[adapter, &options].concat());
            let [model, expected] = [dtype, reference].map(alone);
            let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{found}"));
            let divergence = &found["reference"];
            assert_eq!((&found["dtype"], &divergence["dtype"]), (&dtype.into(), &reference.into()));
            let perplexity = number(&expected["perplexity"]);
            for (found, expected) in [
                (&found["perplexity"], number(&model["perplexity"])),
                (&divergence["perplexity"], perplexity),
                (&divergence["perplexity_ratio"], number(&model["perplexity"]) / perplexity),
            ] {
                let found = number(found);
                assert!((found - expected).abs() < 1e-5 * expected, "{found} is not {expected}");
            }
            assert_eq!(
                (&found["accuracy"], &found["tokens"]),
                (&model["accuracy"], &model["tokens"])
            );
            let [mean, high, max] =
                ["kl_mean", "kl_99", "kl_max"].map(|key| number(&divergence[key]));
            assert!(0. < mean && mean < high && high <= max, "{divergence}");
            let same = number(&divergence["same_argmax"]);
            assert!((0.5..=1.).contains(&same), "{divergence}");
        }
    }
    let told =
        bench.run(&["eval", "model", "rows.jsonl", "--dtype", "q4", "--reference-dtype=f32"]);
    assert!(told.stdout.contains("against f32: KL divergence "), "{}{}", told.stdout, told.stderr);
    let run = bench.run(&["eval", "model", "rows.jsonl", "--reference-dtype", "f32"]);
    assert!(run.code == 1 && run.stderr.contains("nothing to compare"), "{}", run.stderr);
}

/// Records of adapters name the format unless it is f32; such records are as earlier versions wrote them.
fn expect_recorded(bench: &Bench, dtype: &str) {
    let expected = (dtype != "f32").then(|| Value::from(dtype));
    for (adapter, is_mounted) in [("adapter", false), ("mounted", true)] {
        let record = bench.read(&format!("{adapter}/litemoe.json"));
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        assert_eq!(record.get("dtype"), expected.as_ref(), "{record}");
        if is_mounted {
            assert_eq!(record["mount"].get("dtype"), expected.as_ref(), "{record}");
        }
        let told = bench.run(&["inspect", adapter]);
        let lines =
            told.stdout.lines().filter(|line| line.contains(&format!("weights in {dtype}")));
        let expected = if dtype == "f32" { 0 } else { 1 + usize::from(is_mounted) };
        assert_eq!(lines.count(), expected, "{}{}", told.stdout, told.stderr);
    }
}

#[test]
fn a_run_in_one_format_is_not_resumed_in_another() {
    let bench = Bench::new();
    let tune = ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl", "--out", "adapter"];
    let quick =
        ["--steps=300", "--batch=4", "--validate-every=1", "--validation-rows=8", "--resume"];
    let args = [&tune[..], &quick[..]].concat();
    let mut child = bench.command(&args).stderr(Stdio::null()).spawn().expect("it starts");
    let begun = checkpointed(&mut child, &bench.path("adapter.checkpoint"), None);
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(begun, "the run ended before it was killed");
    let run = bench.run(&[&args[..], &["--dtype=q4"]].concat());
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("dtype is \"f32\" there and \"q4\" here"), "{}", run.stderr);
    assert!(!bench.path("adapter").exists());
}

#[test]
fn unknown_formats_and_instruction_sets_are_refused() {
    let bench = Bench::new();
    let run = bench.run(&["logits", "model", "--ids", "5", "--dtype", "q3"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(
        ["f32", "bf16", "q8", "q4"].iter().all(|name| run.stderr.contains(name)),
        "{}",
        run.stderr
    );
    let mut command = bench.command(&["logits", "model", "--ids", "5"]);
    let run = Run::of(&command.env("LITEMOE_KERNELS", "sse9").output().expect("the binary runs"));
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("LITEMOE_KERNELS=sse9") && run.stderr.contains("portable"),
        "{}",
        run.stderr
    );
}

/// Every set of instructions, as far as the machine has it.
#[test]
fn instruction_sets_agree() {
    let bench = Bench::new();
    let logits = |dtype: &str, set: &str| -> Option<Vec<f64>> {
        let args = ["logits", "model", "--ids", "5,17,300,8", "--json", "--dtype", dtype];
        let mut command = bench.command(&args);
        let run = Run::of(&command.env("LITEMOE_KERNELS", set).output().expect("the binary runs"));
        if run.code != 0 {
            assert!(
                set != "portable" && run.stderr.contains("no such instructions"),
                "{}",
                run.stderr
            );
            return None;
        }
        let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let rows: Vec<Vec<f64>> = serde_json::from_value(found["logits"].clone()).expect("logits");
        Some(rows.concat())
    };
    for (dtype, bound) in [("bf16", 1e-2), ("q8", 1e-5), ("q4", 1e-5)] {
        let expected = logits(dtype, "portable").expect("every machine has it");
        for set in ["avx2", "avx512", "amx"] {
            if let Some(found) = logits(dtype, set) {
                let distance = distance(&found, &expected);
                assert!(distance <= bound, "{dtype}, {set}: {distance}");
            }
        }
    }
}

//! `litemoe quantize`, and models that it wrote.

use std::fs;

use serde_json::Value;

use crate::bench::Bench;

fn logits(bench: &Bench, model: &str, more: &[&str]) -> Value {
    let mut found = bench.json(&[&["logits", model, "--ids", "5,17,300,44"], more].concat());
    found["logits"].take()
}

fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    let run = bench.run(args);
    assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
}

#[test]
fn a_quantized_model_computes_what_the_format_gives_the_original() {
    for name in ["qwen3_moe", "granitemoe", "gpt_oss_mxfp4"] {
        let bench = Bench::of(name);
        for dtype in ["q8", "q4"] {
            let report = bench.json(&["quantize", "model", "--dtype", dtype]);
            assert_eq!(report["dtype"], dtype);
            assert!(report["quantised"].as_u64() > Some(10), "{report}");
            let (bytes, source) = (report["bytes"].as_u64(), report["source_bytes"].as_u64());
            assert!(bytes < source, "{name} {dtype}: {report}");
            let expected = logits(&bench, "model", &["--dtype", dtype]);
            assert_eq!(logits(&bench, "quantized", &[]), expected, "{name} {dtype}");
            assert_ne!(logits(&bench, "quantized", &["--dtype", "f32"]), expected, "{name}");
            let files = ["tokenizer.json", "tokenizer_config.json"];
            for file in files {
                let [own, source] = ["quantized", "model"].map(|dir| bench.path(dir).join(file));
                assert_eq!(fs::read(own).expect("read"), fs::read(source).expect("read"), "{file}");
            }
        }
        let run = bench.run(&["quantize", "model"]);
        assert!(
            run.code == 0 && run.stdout.contains(" written in q4: "),
            "{}{}",
            run.stdout,
            run.stderr
        );
    }
}

#[test]
fn reports_and_inspect_say_the_format() {
    let bench = Bench::new();
    bench.json(&["quantize", "model"]);
    assert_eq!(bench.json(&["eval", "quantized", "rows.jsonl"])["dtype"], "q4");
    let told = bench.json(&["eval", "quantized", "rows.jsonl", "--dtype", "q8"]);
    assert_eq!(told["dtype"], "q8");
    let original = bench.json(&["inspect", "model"]);
    let found = bench.json(&["inspect", "quantized", "--context", "64"]);
    assert!(original["quantised"].is_null());
    assert_eq!(found["quantised"]["dtype"], "q4");
    assert_eq!(found["quantised"]["source"], original["fingerprint"]);
    assert_eq!(found["parameters"], original["parameters"]);
    assert_eq!(found["forecast"]["dtype"], "q4");
    let run = bench.run(&["inspect", "quantized"]);
    assert!(run.stdout.contains("quantised"), "{}", run.stdout);
}

#[test]
fn adapters_of_the_original_fit_and_those_of_others_do_not() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let mount = ["--plan", "plan.json", "--validation", "rows.jsonl", "--scale", "1"];
    let mount = [&mount[..], &["--routing", "2", "--json"]].concat();
    bench.json(&["quantize", "model"]);
    for (model, out) in [("model", "of-model"), ("quantized", "of-quantized")] {
        let args = [&["mount", model, "adapter", "--dtype", "q4", "--out", out], &mount[..]];
        let run = bench.run(&args.concat());
        assert_eq!(run.code, 0, "{model}: {}", run.stderr);
    }
    let expected = logits(&bench, "model", &["--dtype", "q4", "--adapter", "of-model"]);
    for adapter in ["of-model", "of-quantized"] {
        let found = logits(&bench, "quantized", &["--adapter", adapter]);
        assert_eq!(found, expected, "{adapter}");
    }
    assert_eq!(bench.json(&["inspect", "of-model", "--model", "quantized"])["fit"]["fits"], true);

    let other = Bench::of("olmoe");
    other.tune("model", "adapter", &[]);
    bench.copy_from(&other, "adapter", "foreign");
    let args = ["logits", "quantized", "--ids", "5", "--adapter", "foreign"];
    refused(&bench, &args, &["foreign cannot be mounted on quantized"]);
    // What was made for the quantised model is not the original's.
    bench.tune("quantized", "own", &[]);
    let args = ["logits", "model", "--ids", "5", "--adapter", "own"];
    refused(&bench, &args, &["own cannot be mounted on model"]);
}

#[test]
fn the_loop_runs_on_a_quantized_model() {
    let bench = Bench::new();
    bench.json(&["quantize", "model"]);
    let app = bench.path("app");
    fs::create_dir(&app).expect("made");
    for split in ["train", "validation", "test"] {
        fs::copy(bench.path("rows.jsonl"), app.join(split).with_extension("jsonl"))
            .expect("copied");
    }
    let quick = ["--steps", "4", "--validate-every", "2", "--batch", "4", "--no-controls"];
    let args = ["customize", "--foundation", "quantized", "--app", "app", "--budget"];
    // Without a refit, the sizes are those of files alone.
    let few = bench.json(&[&args[..], &["0.25", "--refit", "none", "--dry-run"], &quick].concat());
    let proxy = &few["apps"][0]["proxies"][0];
    assert_eq!(
        proxy["expert_bytes"].as_u64().map(|it| 4 * it),
        proxy["foundation_expert_bytes"].as_u64()
    );
    bench.json(&[&args[..], &["0.25", "--refit", "none"], &quick].concat());
    fs::remove_dir_all(bench.path("litemoe-out")).expect("removed");
    let report = bench.json(&[&args[..], &["0.5"], &quick].concat());
    let app = &report["apps"][0];
    assert_eq!(app["options"]["dtype"], "q4", "{app}");
    let size = &app["expert_bytes"];
    assert_eq!(size["proxy"].as_u64().map(|it| 2 * it), size["foundation"].as_u64(), "{app}");
    let proxy = bench.json(&["inspect", "litemoe-out/app/proxy"]);
    assert!(proxy["quantised"].is_null() && proxy["dtypes"].to_string().contains("BF16"));
    let left = bench.json(&["inspect", "quantized", "--budget", "0.5"])["budgets"][0].take();
    for key in ["bytes", "expert_bytes", "parameters"] {
        assert_eq!(left[key], proxy[key], "{key}");
    }
}

#[test]
fn what_needs_the_original_is_refused() {
    let bench = Bench::new();
    let original = bench.json(&["inspect", "model"])["fingerprint"].take();
    let original = original.as_str().expect("a fingerprint");
    bench.json(&["quantize", "model"]);
    bench.tune("model", "adapter", &[]);
    for args in [
        &["eval", "quantized", "rows.jsonl", "--reference-dtype", "f32"][..],
        &["quantize", "quantized", "--out", "again"],
        &["fuse", "quantized", "adapter", "--out", "again"],
        &["export", "vllm", "quantized", "--adapter", "home=adapter", "--out", "again"],
    ] {
        refused(&bench, args, &["is quantised in q4", original]);
        assert!(!bench.path("again").exists());
    }
    for (dtype, code) in [("f32", 1), ("bf16", 1), ("q5", 2)] {
        let run = bench.run(&["quantize", "model", "--dtype", dtype, "--out", "again"]);
        assert!(run.code == code && run.stderr.contains("q8, q4"), "{}", run.stderr);
    }
    refused(&bench, &["quantize", "model", "--out", "model"], &["would replace the input model"]);
    fs::create_dir(bench.path("mine")).expect("made");
    fs::write(bench.path("mine/notes.txt"), "mine").expect("written");
    refused(&bench, &["quantize", "model", "--out", "mine"], &["mine"]);
    bench.extract(&[]);
    refused(
        &bench,
        &["quantize", "proxy", "--out", "again"],
        &["is a proxy, and only foundations are quantised"],
    );
}

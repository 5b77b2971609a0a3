//! `extract --refit` and the commands that use its result.

use serde_json::Value;

use crate::bench::Bench;

const REFIT: [&str; 6] = ["extract", "model", "plan.json", "--data", "rows.jsonl", "--refit"];

fn planned(bench: &Bench) {
    bench.json(&["score", "model", "rows.jsonl"]);
    bench.json(&["plan", "model", "scores.json", "--budget", bench.budget]);
}

fn refit(bench: &Bench, args: &[&str]) -> Value {
    bench.json(&[&REFIT[..], args].concat())
}

fn assert_less(report: &Value) {
    let layers = report["refit"]["layers"].as_array().expect("layers");
    assert!(!layers.is_empty());
    for layer in layers {
        let share = |name: &str| layer[name].as_f64().expect("a number");
        assert!(share("after") < share("before"), "{layer}");
    }
}

#[test]
fn a_low_rank_refit_is_an_adapter_that_tuning_goes_on_from() {
    let bench = Bench::new();
    planned(&bench);
    bench.json(&["extract", "model", "plan.json", "--out", "plain"]);
    let report = refit(&bench, &["low-rank", "--refit-rank", "5"]);
    assert_less(&report);
    assert_eq!(report["refit"]["adapter"], "proxy-refit");
    for name in ["config.json", "model.safetensors"] {
        assert!(bench.read(&format!("proxy/{name}")) == bench.read(&format!("plain/{name}")));
    }
    let config: Value = serde_json::from_slice(&bench.read("proxy-refit/adapter_config.json"))
        .expect("a configuration");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&5.into(), &10.into()));
    let eval = ["eval", "proxy", "rows.jsonl", "--adapter", "proxy-refit"];
    assert!(bench.json(&eval)["perplexity"].as_f64().expect("a number").is_finite());
    // The LoRAs of --init keep their rank; the other targets have the rank of the options.
    let tune = ["--plan", "plan.json", "--init", "proxy-refit", "--targets"];
    bench.tune("proxy", "adapter", &[&tune[..], &["q_proj,experts"]].concat());
    let config: Value = serde_json::from_slice(&bench.read("adapter/adapter_config.json"))
        .expect("a configuration");
    let ranks = config["rank_pattern"].as_object().expect("ranks");
    let all: Vec<u64> = ranks.values().chain([&config["r"]]).filter_map(Value::as_u64).collect();
    // PEFT ignores rank patterns of single experts: LoRAs of lower rank are padded.
    assert!([5, 8].iter().all(|rank| all.contains(rank)) && !all.contains(&4), "{config}");
    let mount = ["mount", "model", "adapter", "--scale", "1", "--plan", "plan.json"];
    bench.json(&[&mount[..], &["--routing", "restricted"]].concat());
    let refused = bench.run(
        &[
            &["tune", "proxy", "rows.jsonl", "--validation", "rows.jsonl"][..],
            &tune,
            &["attention"],
        ]
        .concat(),
    );
    assert!(refused.stderr.contains("down_proj is not among the targets"), "{}", refused.stderr);
}

#[test]
fn a_fresh_run_from_the_refit_begins_where_it_stands() {
    let bench = Bench::new();
    planned(&bench);
    refit(&bench, &["low-rank"]);
    let options = ["--plan", "plan.json", "--init", "proxy-refit", "--targets", "down_proj"];
    bench.tune(
        "proxy",
        "adapter",
        &[&options[..], &["--steps", "1", "--learning-rate", "1e-12"]].concat(),
    );
    let loss = |adapter| {
        bench.json(&["eval", "proxy", "rows.jsonl", "--adapter", adapter])["perplexity"].clone()
    };
    let [refit, tuned] =
        ["proxy-refit", "adapter"].map(|name| loss(name).as_f64().expect("a number"));
    assert!((refit / tuned - 1.0).abs() < 1e-5, "{refit} and {tuned}");
}

#[test]
fn a_full_refit_says_that_the_proxy_is_no_view_any_more() {
    let bench = Bench::new();
    planned(&bench);
    bench.json(&["extract", "model", "plan.json", "--out", "plain"]);
    assert_less(&refit(&bench, &["full"]));
    let text =
        String::from_utf8_lossy(&bench.read("proxy/model.safetensors")[..16_000]).into_owned();
    assert!(text.contains("\"litemoe_refit\":\"full\""));
    assert!(bench.read("proxy/model.safetensors") != bench.read("plain/model.safetensors"));
    let perplexity = |model| bench.json(&["eval", model, "rows.jsonl"])["perplexity"].clone();
    assert_ne!(perplexity("proxy"), perplexity("plain"));
    // An adapter tuned on it records the refit, and mounting warns.
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let record: Value = serde_json::from_slice(&bench.read("adapter/litemoe.json")).expect("JSON");
    assert_eq!(record["refit"], "full");
    let mount = ["mount", "model", "adapter", "--plan", "plan.json", "--scale", "1"];
    let mounted = bench.run(&[&mount[..], &["--routing", "restricted"]].concat());
    assert!(mounted.code == 0 && mounted.stderr.contains("does not carry"), "{}", mounted.stderr);
}

#[test]
fn families_with_stacked_experts_are_refitted_too() {
    for family in ["gpt_oss", "gpt_oss_mxfp4", "granitemoe", "llama4_text"] {
        let bench = Bench::of(family);
        planned(&bench);
        assert_less(&refit(&bench, &["low-rank"]));
        let eval = ["eval", "proxy", "rows.jsonl"];
        let plain = bench.json(&eval)["perplexity"].clone();
        let with = [&eval[..], &["--adapter", "proxy-refit"]].concat();
        assert_ne!(bench.json(&with)["perplexity"], plain, "{family}");
        assert_less(&refit(&bench, &["full"]));
    }
}

#[test]
fn two_refits_write_the_same_bytes() {
    let run = || {
        let bench = Bench::new();
        planned(&bench);
        refit(&bench, &["low-rank"]);
        refit(&bench, &["full", "--out", "changed"]);
        bench
    };
    let (one, two) = (run(), run());
    for name in ["proxy-refit/adapter_model.safetensors", "changed/model.safetensors"] {
        assert!(one.read(name) == two.read(name), "{name} differs between two runs");
    }
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let bench = Bench::new();
    planned(&bench);
    let before = bench.names();
    let refused = |args: &[&str], says: &str| {
        let run = bench.run(&[&["extract", "model", "plan.json"], args].concat());
        assert!(run.code != 0 && run.stderr.contains(says), "{args:?}: {}", run.stderr);
        assert_eq!(bench.names(), before, "{args:?}");
    };
    let data = ["--data", "rows.jsonl"];
    let with = |args: &[&'static str]| [&data[..], args].concat();
    refused(&["--refit", "full"], "--data");
    refused(&data, "--data is for");
    refused(&with(&["--refit", "full", "--refit-rank", "3"]), "--refit-rank is for");
    refused(&with(&["--refit", "low-rank", "--refit-out", "proxy"]), "are both proxy");
    refused(&with(&["--refit", "low-rank", "--refit-rank", "0"]), "at least 1");
    refused(&with(&["--refit", "low-rank", "--refit-rank", "1000"]), "rank 1000 is asked for");
    refused(&["--refit", "full", "--data", "missing.jsonl"], "missing.jsonl");
}

#[test]
fn an_encoder_is_refused() {
    let bench = Bench::of("switch_transformers");
    planned(&bench);
    let before = bench.names();
    let refused = bench.run(&[&REFIT[..], &["full"]].concat());
    assert!(refused.stderr.contains("encoder"), "{}", refused.stderr);
    assert_eq!(bench.names(), before);
}

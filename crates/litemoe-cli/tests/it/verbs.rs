//! Every command on the tiny model.

use std::fs;
use std::path::Path;

use crate::bench::Bench;

/// A tiny checkpoint of each, and of each layout of experts.
const FAMILIES: [&str; 13] = [
    "qwen3_moe",
    "granitemoe",
    "mixtral",
    "mixtral_fused",
    "olmoe",
    "qwen2_moe",
    "phimoe",
    "deepseek_v2",
    "deepseek_v3",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "llama4_text",
    "switch_transformers",
];

#[test]
fn the_loop_by_hand_in_every_family() {
    for name in FAMILIES {
        the_loop_by_hand(&Bench::of(name));
    }
}

fn the_loop_by_hand(bench: &Bench) {
    bench.extract(&["--merge", "litemoe", "--router", "redirect", "--cold", "0.1"]);
    assert_eq!(bench.json(&["eval", "proxy", "rows.jsonl"])["rows"], 40);
    bench.extract(&[]);
    let [proxy, foundation] = ["proxy", "model"].map(|model| {
        let inspected = bench.json(&["inspect", model]);
        inspected["expert_bytes"].as_u64().expect("bytes")
    });
    if !is_quantised(&bench.path("model")) {
        let budget: f64 = bench.budget.parse().expect("a share");
        assert_eq!(proxy as f64, budget * foundation as f64);
    }
    let tuned = bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    assert!(tuned["validation_loss"].as_f64().expect("a loss") > 0.0);
    assert!(tuned["peak_bytes"]["anonymous"].as_u64().expect("bytes") > 0);
    let on_proxy = bench.json(&["eval", "proxy", "rows.jsonl", "--adapter", "adapter"]);
    let mount = [
        "mount",
        "model",
        "adapter",
        "--validation",
        "rows.jsonl",
        "--out",
        "mounted",
        "--scale",
        "0.5",
    ];
    assert_eq!(bench.json(&mount)["scale"], 0.5);
    let mounted = bench.json(&["eval", "model", "rows.jsonl", "--adapter", "mounted"]);
    let alone = bench.json(&["eval", "model", "rows.jsonl"]);
    assert_ne!(mounted["perplexity"], alone["perplexity"]);
    for evaluated in [on_proxy, mounted, alone] {
        assert_eq!(evaluated["rows"], 40);
        assert!(evaluated["perplexity"].as_f64().expect("a number") > 1.0);
    }
}

fn is_quantised(model: &Path) -> bool {
    let config = fs::read_to_string(model.join("config.json")).expect("the file is there");
    config.contains("quantization_config")
}

#[test]
fn an_adapter_moves_the_logits_and_the_mounted_one_by_its_scale() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let logits = |args: &[&str]| {
        let printed = bench.json(&[&["logits", "model", "--ids", "5,17,300"], args].concat());
        printed["logits"].clone()
    };
    let (plain, adapted) = (logits(&[]), logits(&["--adapter", "adapter"]));
    assert_ne!(plain, adapted);
    bench.json(&[
        "mount",
        "model",
        "adapter",
        "--validation",
        "rows.jsonl",
        "--out",
        "one",
        "--scale",
        "1",
    ]);
    assert_eq!(logits(&["--adapter", "one"]), adapted);
    let zero = bench.json(&[
        "mount",
        "model",
        "adapter",
        "--validation",
        "rows.jsonl",
        "--out",
        "none",
        "--scale",
        "0",
    ]);
    assert_eq!((&zero["scale"], &zero["mounted"]), (&0.0.into(), &false.into()));
    assert!(!bench.path("none").exists());
}

#[test]
fn a_merged_proxy_with_its_own_router_runs() {
    for router in ["redirect", "redirect_selected", "drop_rows"] {
        let bench = Bench::new();
        bench.extract(&["--merge", "litemoe", "--router", router, "--cold", "0.1"]);
        let evaluated = bench.json(&["eval", "proxy", "rows.jsonl"]);
        assert!(evaluated["perplexity"].as_f64().expect("a number").is_finite());
        let config = fs::read_to_string(bench.path("proxy/config.json")).expect("a config");
        assert_eq!(config.contains("litemoe_qwen3_moe"), router != "drop_rows");
    }
}

#[test]
fn the_identity_plan_keeps_the_logits_bit_for_bit() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl"]);
    for router in ["drop_rows", "redirect", "redirect_selected"] {
        bench.json(&["plan", "model", "scores.json", "--budget", "1", "--router", router]);
        bench.json(&["extract", "model", "plan.json"]);
        let logits =
            |model: &str| bench.json(&["logits", model, "--ids", "5,17,300,44"])["logits"].clone();
        assert_eq!(logits("model"), logits("proxy"), "{router}");
    }
}

#[test]
fn help_speaks_of_every_command_and_usage_errors_exit_with_two() {
    let bench = Bench::new();
    let help = bench.run(&["--help"]);
    assert_eq!(help.code, 0);
    for verb in [
        "customize",
        "pull",
        "score",
        "plan",
        "extract",
        "tune",
        "mount",
        "eval",
        "generate",
        "chat",
        "serve",
        "inspect",
        "logits",
    ] {
        assert!(help.stdout.contains(verb), "{verb}");
        assert_eq!(bench.run(&[verb, "--help"]).code, 0);
        assert_eq!(bench.run(&[verb, "--no-such-flag"]).code, 2);
    }
}

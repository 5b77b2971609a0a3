//! Every command on the tiny model.

use std::fs;

use crate::bench::Bench;

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
    assert_eq!((&zero["choice"], &zero["mounted"]), (&serde_json::Value::Null, &false.into()));
    assert!(!bench.path("none").exists());
}

#[test]
fn an_adapter_of_a_proxys_experts_is_mounted_through_its_plan() {
    let bench = Bench::new();
    bench.extract(&["--merge", "litemoe", "--cold", "0.1"]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "experts,q_proj"]);
    let on_proxy = bench.json(&["eval", "proxy", "rows.jsonl", "--adapter", "adapter"]);
    assert!(on_proxy["perplexity"].as_f64().expect("a number") > 1.0);
    // The proxy's expert indices are not the foundation's.
    let eval = ["eval", "model", "rows.jsonl", "--adapter"];
    let refused = bench.run(&[&eval[..], &["adapter"]].concat());
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("mount it with that plan"), "{}", refused.stderr);
    let mount =
        ["mount", "model", "adapter", "--scale", "1", "--routing", "full", "--out", "mounted"];
    assert!(bench.run(&mount).stderr.contains("mount it with that plan"));
    bench.json(&["plan", "model", "scores.json", "--budget", "0.75", "--out", "other.json"]);
    let other = bench.run(&[&mount[..], &["--plan", "other.json"]].concat());
    assert!(other.stderr.contains("but this plan is"), "{}", other.stderr);
    assert!(!bench.path("mounted").exists());
    bench.json(&[&mount[..], &["--plan", "plan.json"]].concat());
    let mounted = bench.json(&[&eval[..], &["mounted"]].concat());
    let alone = bench.json(&["eval", "model", "rows.jsonl"]);
    assert_ne!(mounted["perplexity"], alone["perplexity"]);
    let record: serde_json::Value =
        serde_json::from_slice(&bench.read("mounted/litemoe.json")).expect("JSON");
    assert_eq!(record["map"], "host");
    assert!(bench.run(&["eval", "proxy", "rows.jsonl", "--adapter", "mounted"]).code == 1);
}

/// The tuned proxy, and the foundation with the adapter mounted under restricted routing, give the same in every
/// command that takes an adapter.
#[test]
fn restricted_to_its_proxys_experts_a_mounted_adapter_is_the_tuned_proxy() {
    for router in ["drop_rows", "mask"] {
        let bench = Bench::new();
        bench.extract(&["--router", router]);
        bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
        let mount = ["mount", "model", "adapter", "--plan", "plan.json", "--scale", "1"];
        let restricted = ["--routing", "restricted", "--out", "mounted"];
        let report = bench.json(&[&mount[..], &restricted].concat());
        assert_eq!(report["choice"]["routing"], "restricted");
        let both = |args: &[&str], field: &str| {
            [("proxy", "adapter"), ("model", "mounted")].map(|(model, adapter)| {
                let args = [&[args[0], model], &args[1..], &["--adapter", adapter]].concat();
                bench.json(&args)[field].clone()
            })
        };
        let [proxy, mounted] = both(&["logits", "--ids", "5,17,300,44,9"], "logits");
        let numbers = |logits: serde_json::Value| -> Vec<f64> {
            serde_json::from_value::<Vec<Vec<f64>>>(logits).expect("rows of numbers").concat()
        };
        let (proxy, mounted) = (numbers(proxy), numbers(mounted));
        let far = proxy.iter().zip(&mounted).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(far < 2e-5 * proxy.iter().fold(1.0, |max: f64, x| max.max(x.abs())), "{far}");
        let [proxy, mounted] = both(&["eval", "rows.jsonl"], "perplexity")
            .map(|perplexity| perplexity.as_f64().expect("a number"));
        assert!((proxy / mounted - 1.0).abs() < 1e-4, "{proxy} {mounted}");
        let generate = ["generate", "--prompt", "add 3 and 4", "--max-tokens", "8"];
        let [proxy, mounted] = both(&generate, "text");
        assert_eq!(proxy, mounted);
        // With full routing the answer differs.
        bench.json(&[&mount[..], &["--routing", "full", "--out", "full"]].concat());
        let full = bench.json(&["eval", "model", "rows.jsonl", "--adapter", "full"]);
        let full = full["perplexity"].as_f64().expect("a number");
        let restricted = both(&["eval", "rows.jsonl"], "perplexity");
        assert!((full / restricted[1].as_f64().expect("a number") - 1.0).abs() > 1e-4);
    }
}

#[test]
fn a_portable_adapter_is_one_that_peft_loads() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let mount = ["mount", "model", "adapter", "--plan", "plan.json", "--validation", "rows.jsonl"];
    let kind = |dir: &str| {
        let config = bench.read(&format!("{dir}/adapter_config.json"));
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        config["peft_type"].as_str().expect("a type").to_owned()
    };
    bench.json(&[&mount[..], &["--routing", "2", "--scale", "1", "--out", "routed"]].concat());
    assert_eq!(kind("routed"), "LITEMOE_LORA");
    assert!(!bench.path("routed/adapter_model.safetensors").exists());
    let run = bench.run(&[&mount[..], &["--portable", "--scale", "1", "--out", "plain"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("routing full, scale 1"), "{}", run.stdout);
    assert_eq!(kind("plain"), "LORA");
    let refused = bench.run(&[&mount[..], &["--portable", "--routing", "restricted"]].concat());
    assert!(refused.stderr.contains("--portable is full routing"), "{}", refused.stderr);
    let again = ["mount", "model", "routed", "--scale", "1", "--routing", "full", "--out", "x"];
    let again = bench.run(&again);
    assert!(again.stderr.contains("is mounted already"), "{}", again.stderr);
    let no_plan = bench.run(&["mount", "model", "adapter", "--scale", "1", "--out", "x"]);
    assert_eq!(no_plan.code, 1);
    assert!(no_plan.stderr.contains("only the plan"), "{}", no_plan.stderr);
}

#[test]
fn a_merged_proxy_with_its_own_router_runs() {
    for router in ["redirect", "redirect_selected", "drop_rows", "mask"] {
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
    for router in ["drop_rows", "redirect", "redirect_selected", "mask"] {
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
        "data",
        "pull",
        "score",
        "plan",
        "extract",
        "tune",
        "mount",
        "fuse",
        "export",
        "eval",
        "generate",
        "chat",
        "serve",
        "app",
        "registry",
        "inspect",
        "logits",
    ] {
        assert!(help.stdout.contains(verb), "{verb}");
        assert_eq!(bench.run(&[verb, "--help"]).code, 0);
        assert_eq!(bench.run(&[verb, "--no-such-flag"]).code, 2);
    }
}

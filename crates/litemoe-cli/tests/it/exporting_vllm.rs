//! `litemoe export vllm`: what is written is what it was made of, and what servers would ignore is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};

use crate::bench::{Bench, edit_json};

const SAME: [&str; 8] =
    ["--rank", "4", "--expert-rank", "4", "--alpha", "8", "--learning-rate", "0.05"];
pub(crate) const MOUNT: [&str; 7] =
    ["mount", "model", "adapter", "--plan", "plan.json", "--validation", "rows.jsonl"];

/// A tiny checkpoint without what servers do not read: its own windows, clipping and jitter.
pub(crate) fn served(name: &str) -> Bench {
    let bench = Bench::of(name);
    edit_json(&bench.path("model/config.json"), |config| {
        for (key, value) in [
            ("sliding_window", json!(null)),
            ("clip_qkv", json!(null)),
            ("use_sliding_window", json!(false)),
            ("router_jitter_noise", json!(0.01)),
        ] {
            if config.get(key).is_some() && name != "gpt_oss" {
                config[key] = value;
            }
        }
        if name == "qwen2_moe" {
            config["layer_types"] = Value::from(vec!["full_attention"; 4]);
        }
    });
    bench
}

pub(crate) fn tuned(bench: &Bench, options: &[&str]) {
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &[&["--plan", "plan.json"], options].concat());
}

fn logits(bench: &Bench, model: &str, adapter: &str) -> Vec<f64> {
    let args = ["logits", model, "--ids", "5,17,300,44", "--adapter", adapter];
    let rows = bench.json(&args)["logits"].take();
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows).expect("numbers");
    rows.concat()
}

fn assert_near(x: &[f64], y: &[f64], bound: f64, what: &str) {
    let unit = y.iter().fold(1.0f64, |unit, value| unit.max(value.abs()));
    let apart = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / unit;
    assert!(x.len() == y.len() && apart <= bound, "{what}: {apart}");
}

pub(crate) fn export(bench: &Bench, model: &str, adapter: &str) -> Value {
    bench.json(&["export", "vllm", model, "--adapter", &format!("home={adapter}"), "--out", "out"])
}

fn config(bench: &Bench) -> Value {
    let config = bench.read("out/adapters/home/adapter_config.json");
    serde_json::from_slice(&config).expect("JSON")
}

/// Names and shapes of an exported adapter's tensors.
fn tensors(bench: &Bench) -> BTreeMap<String, Vec<usize>> {
    let bytes = bench.read("out/adapters/home/adapter_model.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect()
}

pub(crate) fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    // The cache of fingerprints is no output.
    let names = || bench.names().into_iter().filter(|name| name != "cache").collect::<Vec<_>>();
    let before = names();
    let run = bench.run(&[&["export", "vllm"], args, &["--out", "out"]].concat());
    assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
    assert_eq!(names(), before, "{args:?} left something behind");
}

#[test]
fn an_exported_model_and_adapter_give_the_same_logits() {
    let bench = Bench::new();
    tuned(&bench, &SAME);
    let report = export(&bench, "proxy", "adapter");
    let before = logits(&bench, "proxy", "adapter");
    assert_eq!(logits(&bench, "out/model", "out/adapters/home"), before);
    let config = config(&bench);
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8)));
    assert_eq!(
        (&report["name"], &report["adapters"][0]["rank"], &report["max_lora_rank"]),
        (&json!("proxy"), &json!(4), &json!(8))
    );
    assert_eq!(report["servers"]["sglang"]["script"], "serve-sglang.sh");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "litemoe_proxy.json"] {
        let [from, to] = ["proxy", "out/model"].map(|dir| bench.read(&format!("{dir}/{file}")));
        assert!(from == to, "{file}");
    }
    // An output is replaced, but not when something else is in it.
    bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "attention"]);
    export(&bench, "proxy", "adapter");
    let expected = logits(&bench, "proxy", "adapter");
    assert_eq!(logits(&bench, "out/model", "out/adapters/home"), expected);
    fs::write(bench.path("out/adapters/home/notes.txt"), "mine").expect("written");
    refused(
        &bench,
        &["proxy", "--adapter", "home=adapter"],
        &["cannot write out", "did not write"],
    );
    assert_eq!(logits(&bench, "out/model", "out/adapters/home"), expected);
}

#[test]
fn ranks_scales_and_missing_experts_are_evened() {
    let bench = Bench::new();
    // Ranks 8 and 2, a pattern of α, and a LoRA on part of what servers fuse.
    let options = ["--targets", "q_proj,o_proj,down_proj", "--rank", "8", "--expert-rank", "2"];
    tuned(
        &bench,
        &[
            &options[..],
            &["--hot-experts", "0.5", "--scores", "scores.json", "--learning-rate", "0.05"],
        ]
        .concat(),
    );
    fs::remove_file(bench.path("adapter/litemoe.json")).expect("removed");
    edit_json(&bench.path("adapter/adapter_config.json"), |config| {
        config["alpha_pattern"]["model.layers.0.self_attn.q_proj"] = json!(3);
        config["use_rslora"] = json!(true);
    });
    export(&bench, "proxy", "adapter");
    let config = config(&bench);
    for (key, value) in [
        ("r", json!(8)),
        ("rank_pattern", json!({})),
        ("alpha_pattern", json!({})),
        ("use_rslora", json!(false)),
        ("target_parameters", json!(null)),
        ("peft_type", json!("LORA")),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let tensors = tensors(&bench);
    let parts: BTreeSet<&str> = tensors.keys().filter_map(|name| name.rsplit('.').nth(2)).collect();
    let all = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"];
    assert!(parts.iter().eq(&all), "{parts:?}");
    // A and B of four projections, and of three of each of four experts, in two blocks.
    assert_eq!(tensors.len(), 2 * 2 * (4 + 3 * 4));
    for (name, shape) in &tensors {
        let rank = if name.contains("lora_A") { shape[0] } else { shape[1] };
        assert_eq!(rank, 8, "{name}");
    }
    let expected = logits(&bench, "proxy", "adapter");
    assert_near(&logits(&bench, "out/model", "out/adapters/home"), &expected, 1e-6, "evened");
}

#[test]
fn every_expert_has_tensors_of_its_own_in_every_family() {
    for (name, model, sglang) in [
        ("mixtral_fused", "mixtral", false),
        ("olmoe", "olmoe", true),
        ("phimoe", "phimoe", false),
        ("qwen2_moe", "qwen2_moe", true),
        ("qwen3_moe", "qwen3_moe", true),
    ] {
        let bench = served(name);
        tuned(&bench, &SAME);
        let report = export(&bench, "proxy", "adapter");
        assert_eq!(report["family"], model);
        assert_eq!(report["servers"]["sglang"].get("script").is_some(), sglang, "{name}");
        assert_eq!(bench.path("out/serve-sglang.sh").exists(), sglang, "{name}");
        let tensors = tensors(&bench);
        assert!(tensors.keys().any(|name| name.contains(".experts.0.")), "{name}");
        assert!(tensors.keys().all(|name| !name.contains("base_layer")), "{name}");
        let expected = logits(&bench, "proxy", "adapter");
        assert_near(&logits(&bench, "out/model", "out/adapters/home"), &expected, 1e-6, name);
    }
    let bench = served("mixtral_fused");
    tuned(&bench, &SAME);
    let args = ["export", "vllm", "proxy", "--adapter", "home=adapter", "--out", "out"];
    let run = bench.run(&args);
    let why = "no file that starts SGLang: adapter home: SGLang 0.5.23 would not apply the update at \
               model.layers.0.block_sparse_moe.experts.0.w1";
    assert!(run.code == 0 && run.stderr.contains(why), "{}", run.stderr);
    let readme = String::from_utf8(bench.read("out/README.md")).expect("text");
    assert!(readme.contains("| SGLang 0.5.23 | none: adapter home: "), "{readme}");
    // Attention alone is applied by both.
    for name in ["mixtral", "phimoe", "granitemoe", "gpt_oss"] {
        let bench = served(name);
        tuned(&bench, &["--targets", "attention"]);
        let report = export(&bench, "proxy", "adapter");
        assert_eq!(report["servers"]["sglang"]["script"], "serve-sglang.sh", "{name}");
        assert_eq!(
            logits(&bench, "out/model", "out/adapters/home"),
            logits(&bench, "proxy", "adapter")
        );
    }
    for name in ["deepseek_v2", "deepseek_v3"] {
        let bench = served(name);
        tuned(&bench, &["--targets", "experts"]);
        let report = export(&bench, "proxy", "adapter");
        let why = report["servers"]["sglang"]["refused"].as_str().expect("a reason");
        assert!(why.contains(name), "{why}");
    }
}

#[test]
fn a_shared_expert_is_served_by_vllm_alone() {
    let bench = served("qwen2_moe");
    bench.tune("model", "adapter", &["--targets", "q_proj"]);
    let names = ["gate_proj", "up_proj", "down_proj"];
    let config = bench.read("adapter/adapter_config.json");
    let mut config: Value = serde_json::from_slice(&config).expect("JSON");
    config["target_modules"] =
        json!(names.map(|name| format!("layers.0.mlp.shared_expert.{name}")));
    fs::remove_dir_all(bench.path("adapter")).expect("removed");
    fs::create_dir(bench.path("adapter")).expect("a folder");
    fs::write(bench.path("adapter/adapter_config.json"), config.to_string()).expect("written");
    let sites = bench.json(&["inspect", "model"]);
    let d_model = sites["d_model"].as_u64().expect("a width") as usize;
    let written: Value = serde_json::from_slice(&bench.read("model/config.json")).expect("JSON");
    let d_shared = written["shared_expert_intermediate_size"].as_u64().expect("a width") as usize;
    let rank = config["r"].as_u64().expect("a rank") as usize;
    let shapes = names.map(|name| match name {
        "down_proj" => (name, d_shared, d_model),
        _ => (name, d_model, d_shared),
    });
    let tensors = shapes.into_iter().flat_map(|(name, d_in, d_out)| {
        let module = format!("base_model.model.model.layers.0.mlp.shared_expert.{name}");
        [("A", [rank, d_in]), ("B", [d_out, rank])]
            .map(|(which, shape)| (format!("{module}.lora_{which}.weight"), shape))
    });
    write_adapter(&bench, tensors);
    let report = export(&bench, "model", "adapter");
    let why = report["servers"]["sglang"]["refused"].as_str().expect("a reason");
    assert!(
        why.contains("shared_expert.down_proj") && why.contains("attention and routed"),
        "{why}"
    );
    let expected = logits(&bench, "model", "adapter");
    assert_eq!(logits(&bench, "out/model", "out/adapters/home"), expected);
    bench.tune("model", "gate", &["--targets", "shared_expert_gate", "--rank", "1"]);
    let mentions = ["vLLM 0.33 would not apply", "shared_expert_gate", "the shared expert"];
    refused(&bench, &["model", "--adapter", "home=gate"], &mentions);
}

/// Writes the tensors of an adapter, all of one value.
pub(crate) fn write_adapter(bench: &Bench, tensors: impl Iterator<Item = (String, [usize; 2])>) {
    let tensors: Vec<_> = tensors
        .map(|(name, shape)| (name, shape, 0.01f32.to_le_bytes().repeat(shape[0] * shape[1])))
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a tensor"))
    });
    let path = bench.path("adapter/adapter_model.safetensors");
    serialize_to_file(views, None, &path).expect("written");
}

#[test]
fn a_mounted_adapter_goes_back_to_its_proxy_with_its_scale() {
    let bench = Bench::new();
    tuned(&bench, &SAME);
    bench.json(&[&MOUNT[..], &["--routing", "restricted", "--scale", "0.5"]].concat());
    let args = ["export", "vllm", "proxy", "--adapter", "home=mounted", "--out", "out"];
    bench.json(&[&args[..], &["--plan", "plan.json"]].concat());
    assert_eq!(config(&bench)["lora_alpha"], 4);
    let expected = logits(&bench, "model", "mounted");
    assert_near(&logits(&bench, "out/model", "out/adapters/home"), &expected, 1e-6, "mounted");
    let record: Value =
        serde_json::from_slice(&bench.read("out/adapters/home/litemoe.json")).expect("JSON");
    assert_eq!((&record["mount"], &record["map"]), (&Value::Null, &json!("proxy")));
    // So is one without experts.
    bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "attention"]);
    bench.json(&[&MOUNT[..], &["--routing", "restricted", "--scale", "0.5"]].concat());
    bench.json(&[&args[..], &["--plan", "plan.json"]].concat());
    let expected = logits(&bench, "model", "mounted");
    assert_near(&logits(&bench, "out/model", "out/adapters/home"), &expected, 1e-6, "attention");
}

#[test]
fn a_low_rank_refit_is_in_what_is_written() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl"]);
    bench.json(&["plan", "model", "scores.json", "--budget", "0.5"]);
    let refit = ["--refit", "low-rank", "--data", "rows.jsonl"];
    bench.json(&[&["extract", "model", "plan.json"][..], &refit].concat());
    let init = ["--plan", "plan.json", "--init", "proxy-refit"];
    bench.tune("proxy", "adapter", &init);
    for adapter in ["proxy-refit", "adapter"] {
        export(&bench, "proxy", adapter);
        let expected = logits(&bench, "proxy", adapter);
        assert_near(&logits(&bench, "out/model", "out/adapters/home"), &expected, 1e-6, adapter);
    }
    bench.json(&[&MOUNT[..], &["--routing", "restricted", "--scale", "1"]].concat());
    let plan = ["--adapter", "home=mounted", "--plan", "plan.json", "--out", "out"];
    bench.json(&[&["export", "vllm", "proxy"][..], &plan].concat());
    let expected = logits(&bench, "model", "mounted");
    assert_near(&logits(&bench, "out/model", "out/adapters/home"), &expected, 1e-6, "mounted");
}

#[test]
fn a_foundation_is_exported_with_full_routing() {
    let bench = Bench::new();
    tuned(&bench, &SAME);
    bench.json(&[&MOUNT[..], &["--routing", "full", "--scale", "0.5"]].concat());
    bench.tune("model", "full", &SAME);
    let adapters = ["--adapter", "home=mounted", "--adapter", "other.2=full"];
    let args = ["export", "vllm", "model", "--name", "org/base", "--out", "out"];
    let report = bench.json(&[&args[..], &adapters].concat());
    assert_eq!(
        (&report["name"], &report["adapters"][1]["name"]),
        (&json!("org/base"), &json!("other.2"))
    );
    for (adapter, exported) in [("mounted", "home"), ("full", "other.2")] {
        let found = logits(&bench, "out/model", &format!("out/adapters/{exported}"));
        assert_near(&found, &logits(&bench, "model", adapter), 1e-6, adapter);
    }
}

#[cfg(unix)]
#[test]
fn the_files_that_start_servers_pass_their_arguments_on() {
    use std::process::Command;

    let bench = Bench::new();
    tuned(&bench, &["--targets", "attention"]);
    let out = "my app's $HOME";
    let adapters = ["--adapter", "home=adapter", "--adapter", "calls-2=adapter"];
    bench.json(&[&["export", "vllm", "proxy", "--out", out][..], &adapters].concat());
    // Stand-ins for the servers print where they run, and their arguments.
    let bin = bench.path("bin");
    fs::create_dir(&bin).expect("a folder");
    for server in ["vllm", "python3"] {
        let path = bin.join(server);
        fs::write(&path, "#!/bin/sh\npwd -P\nprintf '%s\\n' \"$@\"\n").expect("written");
        let made = Command::new("chmod").arg("+x").arg(&path).status().expect("chmod runs");
        assert!(made.success());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let run = |script: &str| {
        let mut command = Command::new(bench.path(out).join(script));
        command.env("PATH", format!("{}:{path}", bin.display())).args(["--port", "8 000"]);
        let output = command.output().expect("the script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("text");
        lines.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let dir = bench.path(out).canonicalize().expect("a folder").display().to_string();
    let expected = "serve|./model|--served-model-name|proxy|--enable-lora|--max-loras|2|--max-lora-rank|8|--lora-modules\
                    |home=./adapters/home|calls-2=./adapters/calls-2|--port|8 000";
    assert_eq!(
        run("serve-vllm.sh"),
        [&[dir.as_str()][..], &expected.split('|').collect::<Vec<_>>()].concat()
    );
    let expected = "-m|sglang.launch_server|--model-path|./model|--served-model-name|proxy|--enable-lora\
                    |--lora-strict-loading|--max-loras-per-batch|3|--lora-paths|home=./adapters/home\
                    |calls-2=./adapters/calls-2|--port|8 000";
    assert_eq!(
        run("serve-sglang.sh"),
        [&[dir.as_str()][..], &expected.split('|').collect::<Vec<_>>()].concat()
    );
}

//! What `litemoe export vllm` refuses.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, copy_dir, edit_json};
use crate::exporting_vllm::{MOUNT, export, refused, served, tuned, write_adapter};

#[test]
fn updates_that_servers_would_not_apply_are_refused() {
    for (name, targets, mentions) in [
        (
            "qwen3_moe",
            "gate,q_proj",
            &[
                "would not apply the update at model.layers.0.mlp.gate",
                "attention and routed experts",
            ][..],
        ),
        ("deepseek_v2", "attention", &["self_attn", "in deepseek_v2", "routed experts"]),
        ("deepseek_v3", "attention", &["self_attn", "in deepseek_v3", "routed experts"]),
        ("granitemoe", "experts", &["experts.0", "in granitemoe", "it applies those of attention"]),
        ("gpt_oss", "experts", &["experts.0", "in gpt_oss", "it applies those of attention"]),
        ("llama4_text", "attention", &["vLLM 0.33 does not serve llama4_text"]),
        ("switch_transformers", "attention", &["vLLM 0.33 does not serve switch_transformers"]),
    ] {
        let bench = served(name);
        let targets = if name == "switch_transformers" { "q" } else { targets };
        bench.tune("model", "adapter", &["--targets", targets]);
        refused(&bench, &["model", "--adapter", "home=adapter"], mentions);
    }
}

#[test]
fn configurations_that_servers_do_not_read_are_refused() {
    for (name, key) in
        [("olmoe", "clip_qkv"), ("mixtral", "sliding_window"), ("qwen2_moe", "sliding_window")]
    {
        let bench = Bench::of(name);
        bench.tune("model", "adapter", &["--targets", "q_proj"]);
        let mentions = [&format!("vLLM 0.33 does not read `{key}`")[..]];
        refused(&bench, &["model", "--adapter", "home=adapter"], &mentions);
    }
    for (name, key, value) in
        [("olmoe", "norm_topk_prob", json!(true)), ("phimoe", "router_jitter_noise", json!(0.3))]
    {
        let bench = served(name);
        edit_json(&bench.path("model/config.json"), |config| config[key] = value);
        bench.tune("model", "adapter", &["--targets", "q_proj"]);
        let mentions = [&format!("vLLM 0.33 does not read `{key}`")[..]];
        refused(&bench, &["model", "--adapter", "home=adapter"], &mentions);
    }
    // A window as long as the context is none.
    let bench = served("mixtral");
    edit_json(&bench.path("model/config.json"), |config| config["sliding_window"] = json!(256));
    bench.tune("model", "adapter", &["--targets", "q_proj"]);
    export(&bench, "model", "adapter");
}

#[test]
fn routings_that_servers_cannot_apply_are_refused() {
    let bench = Bench::new();
    tuned(&bench, &[]);
    let on = |model: &'static str| [model, "--adapter", "home=mounted"];
    let with_plan = |model| [&on(model)[..], &["--plan", "plan.json"]].concat();
    refused(&bench, &["model", "--adapter", "home=adapter"], &["numbered as in the model"]);
    bench.json(&[&MOUNT[..], &["--routing", "2", "--scale", "1"]].concat());
    refused(&bench, &with_plan("proxy"), &["mounted with 2 routing"]);
    refused(&bench, &on("model"), &["adapter home is mounted with 2 routing", "with its proxy"]);
    bench.json(&[&MOUNT[..], &["--routing", "full", "--scale", "1"]].concat());
    refused(&bench, &with_plan("proxy"), &["mounted with full routing"]);
    bench.json(&[&MOUNT[..], &["--routing", "restricted", "--scale", "1"]].concat());
    refused(&bench, &on("model"), &["adapter home is mounted with restricted routing"]);
    refused(&bench, &on("proxy"), &["only the plan", "give the plan"]);
    bench.json(&["plan", "model", "scores.json", "--budget", "0.75", "--out", "other.json"]);
    let other = [&on("proxy")[..], &["--plan", "other.json"]].concat();
    refused(&bench, &other, &["tuned on the proxy of the plan"]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "attention"]);
    let unmounted = ["model", "--adapter", "home=adapter"];
    refused(
        &bench,
        &unmounted,
        &["home was tuned on a proxy and is not mounted", "--routing full"],
    );
    // Of another proxy.
    bench.json(&["extract", "model", "other.json", "--out", "larger"]);
    refused(&bench, &["larger", "--adapter", "home=adapter"], &["was made for the model"]);
    refused(&bench, &on("larger"), &["was made for the model"]);
}

#[test]
fn proxies_that_are_no_submodels_are_refused() {
    let bench = Bench::new();
    for router in ["mask", "redirect"] {
        bench.extract(&["--router", router]);
        bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "attention"]);
        let mentions = [&format!("router rule {router}")[..], "--router drop_rows"];
        refused(&bench, &["proxy", "--adapter", "home=adapter"], &mentions);
    }
    // Merged experts, and refitted ones, are not those that an adapter is mounted on.
    bench.extract(&["--merge", "litemoe", "--cold", "0.1"]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    export(&bench, "proxy", "adapter");
    fs::remove_dir_all(bench.path("out")).expect("removed");
    bench.json(&[&MOUNT[..], &["--routing", "restricted", "--scale", "1"]].concat());
    let mounted = ["proxy", "--adapter", "home=mounted", "--plan", "plan.json"];
    refused(&bench, &mounted, &["the plan merges experts", "give the adapter that was tuned"]);
    bench.json(&["plan", "model", "scores.json", "--budget", "0.5"]);
    let refit = ["--refit", "full", "--data", "rows.jsonl"];
    bench.json(&[&["extract", "model", "plan.json"][..], &refit].concat());
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    bench.json(&[&MOUNT[..], &["--routing", "restricted", "--scale", "1"]].concat());
    refused(&bench, &mounted, &["own weights were refitted"]);
    export(&bench, "proxy", "adapter");
}

#[test]
fn adapters_that_servers_do_not_read_are_refused() {
    let bench = Bench::new();
    bench.tune("model", "tuned", &["--targets", "q_proj"]);
    fs::remove_file(bench.path("tuned/litemoe.json")).expect("removed");
    let args = ["model", "--adapter", "home=adapter"];
    let edited = |key: &str, value: Value, mentions: &[&str]| {
        let _ = fs::remove_dir_all(bench.path("adapter"));
        copy_dir(&bench.path("tuned"), &bench.path("adapter"));
        edit_json(&bench.path("adapter/adapter_config.json"), |config| config[key] = value);
        refused(&bench, &args, mentions);
    };
    edited("use_dora", json!(true), &["`use_dora`"]);
    edited("bias", json!("all"), &["`bias`"]);
    edited("lora_bias", json!(true), &["`lora_bias`"]);
    edited("modules_to_save", json!(["lm_head"]), &["`modules_to_save`"]);
    edited("target_modules", json!(["q_proj", "embed_tokens", "v_proj"]), &["v_proj"]);
    edited("lora_alpha", json!(0), &["home is all zero"]);
    edited("init_lora_weights", json!("pissa"), &["`init_lora_weights`"]);
    // A rank above every one that vLLM takes.
    let attention = bench.read("model/config.json");
    let config: Value = serde_json::from_slice(&attention).expect("JSON");
    let size = |key: &str| config[key].as_u64().expect("a size") as usize;
    let d_out = size("num_attention_heads") * size("head_dim");
    edit_json(&bench.path("adapter/adapter_config.json"), |config| {
        config["r"] = json!(600);
        config["init_lora_weights"] = json!(true);
    });
    let blocks = 0..size("num_hidden_layers");
    write_adapter(
        &bench,
        blocks.flat_map(|block| {
            let module = format!("base_model.model.model.layers.{block}.self_attn.q_proj");
            [("A", [600, size("hidden_size")]), ("B", [d_out, 600])]
                .map(|(which, shape)| (format!("{module}.lora_{which}.weight"), shape))
        }),
    );
    refused(&bench, &args, &["adapter home: its rank is 600, but vLLM 0.33 takes at most 512"]);
    // Damage is found before anything is written.
    fs::write(bench.path("adapter/adapter_model.safetensors"), "{").expect("written");
    refused(&bench, &args, &["adapter_model.safetensors"]);
}

#[test]
fn names_and_outputs_that_cannot_be_are_refused() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &["--targets", "q_proj"]);
    let named = |name: &str| format!("{name}=adapter");
    for name in ["", ".x", "../x", "a b", "a:b", "a,b", "é"] {
        refused(&bench, &["model", "--adapter", &named(name)], &["is no name for servers"]);
    }
    refused(&bench, &["model", "--adapter", "adapter"], &["give it a name, NAME=DIR"]);
    let twice = ["model", "--adapter", "home=adapter", "--adapter", "Home=adapter"];
    refused(&bench, &twice, &["`Home` names two models"]);
    refused(&bench, &["model", "--adapter", "model=adapter"], &["`model` names two models"]);
    let colon = ["model", "--adapter", "home=adapter", "--name", "base:1"];
    refused(&bench, &colon, &["`base:1` is no name", "--name"]);
    refused(&bench, &["model", "--adapter", "home=missing"], &["missing"]);
    refused(&bench, &["missing", "--adapter", "home=adapter"], &["missing"]);
    let run =
        bench.run(&["export", "vllm", "model", "--adapter", "home=adapter", "--out", "model"]);
    assert!(run.code == 1 && run.stderr.contains("would replace the input"), "{}", run.stderr);
    let run = bench.run(&["export", "vllm", "model", "--out", "out"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
}

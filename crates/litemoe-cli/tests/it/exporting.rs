//! `litemoe export gguf-lora`: the tensors of a GGUF file.

use std::collections::BTreeMap;
use std::fs;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::bench::{Bench, edit_json};

/// A GGUF file of strings, f32 numbers and f32 tensors.
struct Gguf {
    metadata: BTreeMap<String, String>,
    /// Shape, innermost dimension first, and values.
    tensors: BTreeMap<String, (Vec<u64>, Vec<f32>)>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn text(&mut self) -> String {
        let n = self.u64() as usize;
        String::from_utf8(self.take(n).to_vec()).expect("text")
    }
}

impl Gguf {
    fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader(bytes);
        assert_eq!((reader.take(4), reader.u32()), (&b"GGUF"[..], 3));
        let (n_tensors, n_metadata) = (reader.u64(), reader.u64());
        let mut metadata = BTreeMap::new();
        for _ in 0..n_metadata {
            let key = reader.text();
            let value = match reader.u32() {
                8 => reader.text(),
                6 => f32::from_bits(reader.u32()).to_string(),
                other => panic!("type {other}"),
            };
            metadata.insert(key, value);
        }
        let mut infos = Vec::new();
        for _ in 0..n_tensors {
            let (name, n_dims) = (reader.text(), reader.u32());
            let shape: Vec<u64> = (0..n_dims).map(|_| reader.u64()).collect();
            assert_eq!(reader.u32(), 0, "f32");
            infos.push((name, shape, reader.u64() as usize));
        }
        let data = (bytes.len() - reader.0.len()).next_multiple_of(32);
        let tensor = |(name, shape, offset): (String, Vec<u64>, usize)| {
            assert_eq!(offset % 32, 0);
            let n = shape.iter().product::<u64>() as usize;
            let values = bytes[data + offset..][..4 * n].as_chunks().0.iter();
            (name, (shape, values.map(|&value| f32::from_le_bytes(value)).collect()))
        };
        Self { metadata, tensors: infos.into_iter().map(tensor).collect() }
    }
}

/// A matrix of a PEFT file, row-major.
fn matrix(bytes: &[u8], module: &str, which: &str) -> Vec<f32> {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let tensor =
        file.tensor(&format!("base_model.model.{module}.lora_{which}.weight")).expect("a matrix");
    tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}

#[test]
fn attention_and_stacked_experts_have_their_values() {
    let bench = Bench::new();
    let options = [
        "--targets",
        "attention,experts",
        "--rank",
        "4",
        "--expert-rank",
        "4",
        "--alpha",
        "8",
        "--learning-rate",
        "0.05",
    ];
    bench.tune("model", "adapter", &options);
    let report = bench.json(&["export", "gguf-lora", "adapter", "--model", "model"]);
    let gguf = Gguf::read(&bench.read("adapter.gguf"));
    assert_eq!(report["bytes"], bench.read("adapter.gguf").len());
    for (key, value) in [
        ("general.architecture", "qwen3moe"),
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
        ("adapter.lora.alpha", "8"),
    ] {
        assert_eq!(gguf.metadata[key], value);
    }
    // A and B of four projections and three stacks in each of two blocks.
    assert_eq!((gguf.tensors.len(), &report["tensors"]), (28, &Value::from(28)));
    let peft = bench.read("adapter/adapter_model.safetensors");
    let (shape, values) = &gguf.tensors["blk.1.attn_v.weight.lora_b"];
    let module = "model.layers.1.self_attn.v_proj";
    assert_eq!((&shape[..], values), (&[4, 32][..], &matrix(&peft, module, "B")));
    let (shape, values) = &gguf.tensors["blk.1.attn_v.weight.lora_a"];
    assert_eq!((&shape[..], values), (&[64, 4][..], &matrix(&peft, module, "A")));
    let (shape, values) = &gguf.tensors["blk.0.ffn_down_exps.weight.lora_a"];
    assert_eq!(shape, &[32, 4, 8]);
    for expert in 0..8 {
        let module = format!("model.layers.0.mlp.experts.{expert}.down_proj");
        assert_eq!(values[expert * 128..][..128], matrix(&peft, &module, "A"));
    }
}

#[test]
fn rows_of_query_heads_are_reordered_for_llama() {
    let bench = Bench::of("mixtral");
    bench.tune("model", "adapter", &["--targets", "attention", "--learning-rate", "0.05"]);
    bench.json(&["export", "gguf-lora", "adapter", "--model", "model"]);
    let gguf = Gguf::read(&bench.read("adapter.gguf"));
    assert_eq!(gguf.metadata["general.architecture"], "llama");
    let config: Value = serde_json::from_slice(&bench.read("model/config.json")).expect("JSON");
    let peft = bench.read("adapter/adapter_model.safetensors");
    for (leaf, name, heads) in
        [("q_proj", "attn_q", "num_attention_heads"), ("k_proj", "attn_k", "num_key_value_heads")]
    {
        let n_heads = config[heads].as_u64().expect("a number") as usize;
        let (shape, found) = &gguf.tensors[&format!("blk.0.{name}.weight.lora_b")];
        let (rank, d_out) = (shape[0] as usize, shape[1] as usize);
        let half = d_out / n_heads / 2;
        let b = matrix(&peft, &format!("model.layers.0.self_attn.{leaf}"), "B");
        // As reshape(heads, 2, half), swapped to (heads, half, 2).
        for head in 0..n_heads {
            for pair in 0..half {
                for side in 0..2 {
                    let (to, from) =
                        (head * 2 * half + 2 * pair + side, head * 2 * half + side * half + pair);
                    assert_eq!(found[to * rank..][..rank], b[from * rank..][..rank], "{leaf} {to}");
                }
            }
        }
    }
}

#[test]
fn alpha_is_that_of_the_largest_scale() {
    let bench = Bench::new();
    let options =
        ["--targets", "attention", "--rank", "4", "--alpha", "8", "--learning-rate", "0.05"];
    bench.tune("model", "adapter", &options);
    fs::remove_file(bench.path("adapter/litemoe.json")).expect("removed");
    edit_json(&bench.path("adapter/adapter_config.json"), |config| {
        config["alpha_pattern"] = json!({ "model.layers.0.self_attn.k_proj": 1e-40 });
    });
    bench.json(&["export", "gguf-lora", "adapter", "--model", "model"]);
    let gguf = Gguf::read(&bench.read("adapter.gguf"));
    assert_eq!(gguf.metadata["adapter.lora.alpha"], "8");
    let peft = bench.read("adapter/adapter_model.safetensors");
    for leaf in ["k", "v"] {
        let (_, values) = &gguf.tensors[&format!("blk.0.attn_{leaf}.weight.lora_b")];
        let b = matrix(&peft, &format!("model.layers.0.self_attn.{leaf}_proj"), "B");
        let factor = if leaf == "k" { 1e-40 / 8.0 } else { 1.0 };
        let near =
            |(&found, b): (&f32, f32)| (f64::from(found) - f64::from(b) * factor).abs() < 1e-44;
        assert!(values.iter().zip(b).all(near), "{leaf}: {values:?}");
    }
}

#[test]
fn what_llama_cpp_cannot_apply_is_refused() {
    let refused = |bench: &Bench, options: &[&str], mentions: &[&str]| {
        let run = bench.run(&[&["export", "gguf-lora"], options].concat());
        assert_eq!(run.code, 1, "{}", run.stdout);
        for mention in mentions {
            assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
        }
        assert!(!bench.path("adapter.gguf").exists());
    };
    let bench = Bench::of("switch_transformers");
    bench.tune("model", "adapter", &[]);
    refused(&bench, &["adapter", "--model", "model"], &["no architecture for switch_transformers"]);
    let bench = Bench::of("deepseek_v2");
    bench.tune("model", "adapter", &["--targets", "kv_b_proj"]);
    refused(&bench, &["adapter", "--model", "model"], &["kv_b_proj cannot be exported"]);
    // llama.cpp's graph multiplies by these without their LoRAs.
    for (model, targets) in [
        ("deepseek_v3", &["q_proj", "kv_a_proj_with_mqa"][..]),
        ("deepseek_v2", &["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa"]),
    ] {
        let bench = Bench::of(model);
        for target in targets {
            bench.tune("model", "adapter", &["--targets", &format!("{target},o_proj")]);
            let named = format!("{target} cannot be exported");
            let mentions = [named.as_str(), "does not apply LoRAs there in deepseek2"];
            refused(&bench, &["adapter", "--model", "model"], &mentions);
        }
        bench.tune("model", "adapter", &["--targets", "o_proj,experts"]);
        let report = bench.json(&["export", "gguf-lora", "adapter", "--model", "model"]);
        assert_eq!(report["architecture"], "deepseek2");
    }
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json", "--targets", "attention"]);
    let mount = ["mount", "model", "adapter", "--plan", "plan.json", "--validation", "rows.jsonl"];
    bench.json(
        &[&mount[..], &["--routing", "restricted", "--scale", "0.5", "--out", "mounted"]].concat(),
    );
    refused(&bench, &["mounted", "--model", "model"], &["restricted routing", "--portable"]);
    refused(&bench, &["mounted", "--model", "model", "--out", "rows.jsonl/x"], &["rows.jsonl"]);
    let portable = ["export", "gguf-lora", "mounted", "--model", "model", "--portable"];
    let run = bench.run(&portable);
    assert!(run.code == 0 && run.stderr.contains("full routing"), "{}", run.stderr);
    // The scale is part of alpha.
    let gguf = Gguf::read(&bench.read("adapter.gguf"));
    let plain: Value =
        serde_json::from_slice(&bench.read("adapter/adapter_config.json")).expect("JSON");
    let alpha = plain["lora_alpha"].as_f64().expect("a number");
    assert_eq!(gguf.metadata["adapter.lora.alpha"].parse::<f64>().ok(), Some(alpha / 2.0));
}

//! Different spellings and layouts of a checkpoint are the same model.

use std::fs;

use burn::tensor::Device;
use litemoe_core::{ExpertSource, LayerId, MoeModel};
use litemoe_model::{Checkpoint, FeedForwardConfig};
use serde_json::json;

use crate::edit::Copy;
use crate::setup::{TINY, load, logits, row, tiny, values};

#[test]
fn old_spellings_mean_the_same_model() {
    for (name, new) in [("windowed", "yarn"), ("fused", "llama3"), ("qwen3_moe", "default")] {
        let old = Copy::of(name).config(|config| {
            let mut rope = config.remove("rope_parameters").unwrap();
            let rope = rope.as_object_mut().unwrap();
            config.insert("rope_theta".into(), rope.remove("rope_theta").unwrap());
            let kind = rope.remove("rope_type").unwrap();
            assert_eq!(kind, new);
            if kind == "default" {
                config.insert("rope_scaling".into(), json!(null));
            } else {
                rope.insert("type".into(), kind);
                config.insert("rope_scaling".into(), json!(rope));
            }
            let count = config.remove("num_local_experts").unwrap();
            config.insert("num_experts".into(), count);
            let dtype = config.remove("dtype").unwrap();
            config.insert("torch_dtype".into(), dtype);
        });
        let (old, new) =
            (Checkpoint::open(old.path()).unwrap(), Checkpoint::open(tiny(name)).unwrap());
        assert_eq!(old.config(), new.config());
        assert_eq!(old.fingerprint(), new.fingerprint());
    }
}

#[test]
fn a_fingerprint_names_what_is_computed_not_how_it_is_stored() {
    let print = |copy: &Copy| Checkpoint::open(copy.path()).unwrap().fingerprint().clone();
    let sharded = print(&Copy::of("windowed"));
    assert_eq!(print(&Copy::of("windowed").tensors(|_| ())), sharded);
    let named = Copy::of("windowed").config(|config| {
        config.insert("transformers_version".into(), json!("4.51.0"));
        config.insert("eos_token_id".into(), json!(1));
    });
    assert_eq!(print(&named), sharded);
    let other_maths = Copy::of("windowed").config(|config| {
        config.insert("rms_norm_eps".into(), json!(1e-5));
    });
    assert_ne!(print(&other_maths), sharded);
    let other_bit = Copy::of("windowed").tensors(|tensors| {
        tensors.get_mut("model.norm.weight").unwrap().bytes[0] ^= 1;
    });
    assert_ne!(print(&other_bit), sharded);
}

#[test]
fn both_layouts_of_experts_are_one_model() {
    let split = Copy::of("fused").tensors(|tensors| {
        for layer in [1, 3] {
            let path = format!("model.layers.{layer}.mlp.experts");
            let gate_up = tensors.remove(&format!("{path}.gate_up_proj")).unwrap();
            let down = tensors.remove(&format!("{path}.down_proj")).unwrap();
            for expert in 0..6 {
                let rows = gate_up.row(expert);
                let (gate, up) = rows.split_at(rows.len() / 2);
                let mut put = |part: &str, bytes: &[u8], shape: [usize; 2]| {
                    let mut raw = down.clone();
                    (raw.bytes, raw.shape) = (bytes.to_vec(), shape.to_vec());
                    tensors.insert(format!("{path}.{expert}.{part}.weight"), raw);
                };
                put("gate_proj", gate, [24, 48]);
                put("up_proj", up, [24, 48]);
                put("down_proj", down.row(expert), [48, 24]);
            }
        }
    });
    assert_eq!(logits(&load(split.path()), &[row(9)]), logits(&load(tiny("fused")), &[row(9)]));
}

#[test]
fn experts_are_read_one_at_a_time_from_either_layout() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let experts = checkpoint.experts(&Device::flex());
        for layer in experts.moe_layers() {
            let last = experts.expert(layer.id.expert(layer.n_experts - 1)).unwrap();
            assert_eq!(last.up.dims(), [layer.d_expert, layer.d_model]);
            assert_eq!(last.down.dims(), [layer.d_model, layer.d_expert]);
            match last.gate {
                Some(gate) => {
                    assert_eq!(gate.dims(), last.up.dims());
                    assert_ne!(values(&gate), values(&last.up));
                }
                None => assert_eq!(name, "switch_transformers"),
            }
            let beyond = experts.expert(layer.id.expert(layer.n_experts)).unwrap_err();
            assert!(beyond.to_string().contains(&format!("expert {}", layer.n_experts)));
        }
        assert!(experts.expert(LayerId::encoder(99).expert(0)).is_err());
    }
}

#[test]
fn facts_are_those_of_the_files() {
    let checkpoint = Checkpoint::open(tiny("windowed")).unwrap();
    assert_eq!((checkpoint.name().as_str(), checkpoint.family()), ("windowed", "qwen3_moe"));
    let blocks: Vec<usize> = checkpoint.moe_layers().iter().map(|layer| layer.id.block).collect();
    assert_eq!(blocks, [0, 2]);
    let FeedForwardConfig::Dense(dense) = checkpoint.config().feed_forward[1] else {
        panic!("block 1 is dense");
    };
    assert_eq!(dense.d_hidden, 24);
    assert_eq!(checkpoint.moe_layers()[0].expert_bytes, 3 * 40 * 16 * 2);
    assert_eq!(checkpoint.expert_bytes(), 2 * 5 * 3 * 40 * 16 * 2);
    let headers: u64 = 3 * (8 + 4096);
    let files: u64 = (1..=3)
        .map(|i| {
            fs::metadata(tiny("windowed").join(format!("model-0000{i}-of-00003.safetensors")))
                .unwrap()
                .len()
        })
        .sum();
    assert!(checkpoint.bytes() < files && files < checkpoint.bytes() + headers);
    let sites = load(tiny("windowed"));
    let sites = sites.linear_sites().iter().filter(|linear| !linear.role.is_expert());
    let sites: Vec<&str> = sites.map(|linear| linear.site.as_str()).collect();
    assert_eq!(sites.len(), 3 * 4 + 3 + 2);
    assert_eq!(sites[..2], ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"]);
    assert!(sites.contains(&"model.layers.1.mlp.down_proj"));
    assert!(sites.contains(&"model.layers.2.mlp.gate"));
}

#[test]
fn experts_have_sites_by_the_paths_of_released_checkpoints() {
    let of = |name: &str| -> Vec<String> {
        let model = load(tiny(name));
        let experts = model.linear_sites().iter().filter(|linear| linear.role.is_expert());
        experts.map(|linear| linear.site.to_string()).collect()
    };
    // Whatever layout this checkpoint has.
    for (name, path) in [
        ("qwen3_moe", "model.layers.1.mlp.experts.7.gate_proj"),
        ("fused", "model.layers.1.mlp.experts.3.up_proj"),
        ("mixtral", "model.layers.0.block_sparse_moe.experts.1.w2"),
        ("mixtral_fused", "model.layers.1.block_sparse_moe.experts.0.w1"),
        ("phimoe", "model.layers.0.block_sparse_moe.experts.2.w3"),
        ("granitemoe", "model.layers.2.block_sparse_moe.experts.5.gate_proj"),
        ("gpt_oss", "model.layers.1.mlp.experts.4.up_proj"),
        ("gpt_oss_mxfp4", "model.layers.0.mlp.experts.0.down_proj"),
        ("llama4_text", "model.layers.2.feed_forward.experts.1.down_proj"),
        ("deepseek_v3", "model.layers.1.mlp.experts.5.down_proj"),
        ("switch_transformers", "decoder.block.1.layer.2.mlp.experts.expert_3.wi"),
    ] {
        assert!(of(name).iter().any(|site| site == path), "{name}: {:?}", of(name));
    }
    let model = load(tiny("switch_transformers"));
    let n_experts: usize = model.moe_layers().iter().map(|layer| layer.n_experts).sum();
    assert_eq!(of("switch_transformers").len(), 2 * n_experts);
}

#[test]
fn end_tokens_are_those_of_the_generation_config() {
    let eos = |copy: &Copy| Checkpoint::open(copy.path()).unwrap().eos_ids().to_vec();
    let copy = Copy::of("windowed").json("generation_config.json", |config| {
        config.insert("eos_token_id".into(), json!(7));
    });
    assert_eq!(eos(&copy), [7]);
    fs::remove_file(copy.file("generation_config.json")).unwrap();
    assert_eq!(eos(&copy), [2, 0]);
}

#[test]
fn a_head_that_is_stored_is_used_even_where_the_configuration_ties_it() {
    let copy = Copy::of("windowed").tensors(|tensors| {
        let head = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".into(), head);
    });
    assert_eq!(logits(&load(copy.path()), &[row(5)]), logits(&load(tiny("windowed")), &[row(5)]));
    let other = Copy::of("windowed").tensors(|tensors| {
        let mut head = tensors["model.embed_tokens.weight"].clone();
        head.bytes.fill(0);
        tensors.insert("lm_head.weight".into(), head);
    });
    assert!(logits(&load(other.path()), &[row(5)]).iter().all(|&logit| logit == 0.0));
}

//! Errors name what is wrong, and nothing is half-written.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use litemoe_core::{ExpertWeights, LayerId, LayerPlan, Plan, PlanError, RouterRule, WeightDtype};
use litemoe_model::{Checkpoint, Model, ModelError, write_proxy};
use serde_json::json;

use crate::edit::Copy;
use crate::setup::{copies, keep, plan, tiny};

/// Asserts that a checkpoint neither loads nor streams, and that the message names every part.
fn refused(copy: &Copy, named: &[&str]) -> ModelError {
    let [error, streamed] = [Model::load, Model::stream].map(|make| {
        let made =
            Checkpoint::open(copy.path()).and_then(|checkpoint| make(&checkpoint, &Device::flex()));
        made.expect_err("a bad checkpoint was made a model")
    });
    assert_eq!(error.to_string(), streamed.to_string());
    for part in named {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
    error
}

fn truncate(path: &Path, left: impl Fn(usize) -> usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..left(bytes.len())]).unwrap();
}

#[test]
fn truncated_weights() {
    for left in [|_| 0, |_| 5, |_| 100, |len| len / 2, |len: usize| len - 1] {
        let copy = Copy::of("qwen3_moe");
        truncate(&copy.file("model.safetensors"), left);
        refused(&copy, &["model.safetensors"]);
    }
}

#[test]
fn a_truncated_shard() {
    let copy = Copy::of("windowed");
    truncate(&copy.file("model-00002-of-00003.safetensors"), |len| len - 1);
    refused(&copy, &["model-00002-of-00003.safetensors"]);
}

#[test]
fn a_missing_shard() {
    let copy = Copy::of("windowed");
    fs::remove_file(copy.file("model-00003-of-00003.safetensors")).unwrap();
    let error =
        refused(&copy, &["model.safetensors.index.json", "model-00003-of-00003.safetensors"]);
    assert!(matches!(error, ModelError::MissingShard { .. }));
}

#[test]
fn a_shard_outside_the_directory() {
    let copy = Copy::of("windowed").json("model.safetensors.index.json", |index| {
        index["weight_map"]["model.norm.weight"] = json!("../model.safetensors");
    });
    refused(&copy, &["../model.safetensors"]);
}

#[test]
fn no_weights_or_no_configuration() {
    let copy = Copy::of("qwen3_moe");
    fs::remove_file(copy.file("model.safetensors")).unwrap();
    refused(&copy, &["model.safetensors.index.json"]);
    fs::remove_file(copy.file("config.json")).unwrap();
    refused(&copy, &["config.json"]);
}

#[test]
fn a_tensor_of_the_wrong_shape() {
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        let raw = tensors.get_mut("model.layers.1.self_attn.q_proj.weight").unwrap();
        raw.shape = vec![32, 128];
    });
    refused(
        &copy,
        &["model.safetensors", "model.layers.1.self_attn.q_proj.weight", "[32, 128]", "[64, 64]"],
    );
}

#[test]
fn a_missing_tensor() {
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        tensors.remove("model.layers.1.mlp.experts.7.up_proj.weight");
    });
    refused(&copy, &["model.layers.1.mlp.experts.7.up_proj.weight", "[32, 64]", "missing"]);
}

#[test]
fn a_tensor_that_nothing_uses() {
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        let raw = tensors["model.norm.weight"].clone();
        tensors.insert("model.layers.0.self_attn.q_proj.bias".into(), raw);
    });
    refused(&copy, &["nothing uses", "model.layers.0.self_attn.q_proj.bias"]);
}

#[test]
fn weights_that_are_not_finite() {
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        for tensor in ["model.layers.1.mlp.experts.3.down_proj.weight", "model.norm.weight"] {
            let copy = Copy::of("qwen3_moe").tensors(|tensors| {
                tensors.get_mut(tensor).unwrap().bytes[20..24]
                    .copy_from_slice(&value.to_le_bytes());
            });
            refused(&copy, &["model.safetensors", tensor, name, "index 5"]);
        }
    }
}

#[test]
fn weights_that_a_packed_format_cannot_hold() {
    let of_expert = |part: &str| format!("model.layers.1.mlp.experts.3.{part}.weight");
    let names = ["gate_proj", "up_proj", "down_proj"].map(of_expert);
    let names = [&names[..], &["model.layers.0.self_attn.k_proj.weight".to_owned()]].concat();
    for tensor in &names {
        let with = |value: f32, dtype| {
            let copy = Copy::of("qwen3_moe").tensors(|tensors| {
                tensors.get_mut(tensor).unwrap().bytes[20..24]
                    .copy_from_slice(&value.to_le_bytes());
            });
            let checkpoint = Checkpoint::open(copy.path()).unwrap();
            Model::load_as(&checkpoint, &Device::flex(), dtype).map(drop)
        };
        for dtype in [WeightDtype::Q8, WeightDtype::Q4] {
            with(1e5, dtype).unwrap();
            let error = with(1e9, dtype).unwrap_err();
            assert!(matches!(error, ModelError::OutOfRange { .. }), "{error}");
            for part in ["model.safetensors", tensor] {
                assert!(error.to_string().contains(part), "{error}");
            }
            // What is not finite is named with its index.
            let error = with(f32::NAN, dtype).unwrap_err();
            assert!(error.to_string().contains("NaN at index 5"), "{error}");
        }
        with(1e9, WeightDtype::F32).unwrap();
        with(1e9, WeightDtype::Bf16).unwrap();
    }
}

#[test]
fn weights_of_an_unknown_dtype() {
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        tensors.get_mut("model.norm.weight").unwrap().dtype = safetensors::Dtype::I32;
    });
    refused(&copy, &["model.norm.weight", "I32", "BF16"]);
}

#[test]
fn an_unknown_model_type() {
    let copy = Copy::of("qwen3_moe").config(|config| {
        config.insert("model_type".into(), json!("qwen9_moe"));
    });
    refused(&copy, &["config.json", "qwen9_moe", "qwen3_moe"]);
}

#[test]
fn configuration_keys_and_values_that_would_change_the_maths() {
    for (key, value, named) in [
        ("attn_logit_softcapping", json!(30.0), "attn_logit_softcapping"),
        ("quantization_config", json!({"bits": 4}), "quantization_config"),
        ("hidden_act", json!("gelu"), "silu"),
        ("hidden_size", json!("64"), "hidden_size"),
        ("hidden_size", json!(0), "above 0"),
        ("vocab_size", json!(null), "missing"),
        ("num_key_value_heads", json!(3), "a divisor of 4"),
        ("num_experts_per_tok", json!(9), "at most the 8"),
        ("num_experts", json!(7), "num_local_experts"),
        ("head_dim", json!(15), "even"),
        ("rms_norm_eps", json!(-1.0), "rms_norm_eps"),
        ("qkv_bias", json!(true), "qkv_bias"),
        ("eos_token_id", json!("</s>"), "eos_token_id"),
        ("rope_parameters", json!({"rope_type": "proportional", "factor": 2.0}), "proportional"),
        (
            "rope_parameters",
            json!({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0]}),
            "8 factors",
        ),
        ("rope_parameters", json!({"rope_type": "linear"}), "rope_parameters.factor"),
        ("rope_parameters", json!({"rope_type": "linear", "factor": 0}), "rope_parameters.factor"),
        (
            "rope_scaling",
            json!({"type": "default", "mrope_section": [1]}),
            "rope_scaling.mrope_section",
        ),
    ] {
        let copy = Copy::of("qwen3_moe").config(|config| {
            config.insert(key.into(), value);
        });
        refused(&copy, &["config.json", named]);
    }
}

#[test]
fn values_that_a_family_cannot_compute_with() {
    for (family, key, value) in [
        ("mixtral", "num_local_experts", json!(0)),
        ("olmoe", "num_experts", json!(0)),
        ("phimoe", "num_experts_per_tok", json!(1)),
        ("phimoe", "rope_parameters", json!({"rope_type": "linear", "factor": 2.0})),
        ("granitemoe", "logits_scaling", json!(1e-320)),
        ("qwen3_moe", "rope_parameters", json!({"rope_type": "default", "rope_theta": 1e-60})),
        ("qwen3_moe", "rope_parameters", json!({"rope_type": "linear", "factor": 1e-300})),
        (
            "qwen3_moe",
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": 2.0, "mscale": 1e308, "mscale_all_dim": 1e308}),
        ),
        ("deepseek_v2", "topk_method", json!(null)),
        ("deepseek_v2", "norm_topk_prob", json!(true)),
        ("deepseek_v2", "n_group", json!(3)),
        ("deepseek_v2", "qk_head_dim", json!(13)),
        ("deepseek_v3", "n_shared_experts", json!((1_u64 << 60) + 1)),
        ("deepseek_v3", "topk_group", json!(3)),
        ("deepseek_v3", "head_dim", json!(8)),
        ("deepseek_v3", "routed_scaling_factor", json!(1e300)),
        ("deepseek_v3", "scoring_func", json!("softmax")),
        ("gpt_oss", "sliding_window", json!(null)),
        ("gpt_oss_mxfp4", "quantization_config", json!({"quant_method": "awq"})),
        ("llama4_text", "attention_chunk_size", json!(null)),
        ("llama4_text", "attn_scale", json!(1e308)),
        ("llama4_text", "no_rope_layers", json!([1, 2, 1])),
        ("switch_transformers", "dense_act_fn", json!("silu")),
        ("switch_transformers", "num_selected_experts", json!(2)),
        ("switch_transformers", "decoder_start_token_id", json!(512)),
    ] {
        let copy = Copy::of(family).config(|config| {
            config.insert(key.into(), value.clone());
        });
        let error = refused(&copy, &[key.split('.').next().unwrap(), "config.json"]);
        assert!(matches!(error, ModelError::Value { .. }), "{family}: {error}");
    }
}

#[test]
fn blocks_beyond_those_that_predict_further_tokens() {
    let fewer = |further: usize| {
        Copy::of("deepseek_v3").config(|config| {
            config.insert("num_hidden_layers".into(), json!(2));
            config.insert("num_nextn_predict_layers".into(), json!(further));
        })
    };
    refused(&fewer(0), &["model.layers.2.", "nothing uses"]);
    Checkpoint::open(fewer(1).path()).unwrap();
}

#[test]
fn a_configuration_that_is_not_json() {
    let copy = Copy::of("qwen3_moe");
    truncate(&copy.file("config.json"), |len| len / 2);
    assert!(matches!(refused(&copy, &["config.json"]), ModelError::Json { .. }));
}

/// Asserts that a proxy is not written, and that nothing is left behind.
fn not_written(plan: &Plan, make: litemoe_model::MakeExperts<'_>, named: &[&str]) -> ModelError {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("proxy");
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let error = write_proxy(&checkpoint, plan, &target, make).unwrap_err();
    for part in named {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    error
}

fn kept(router: RouterRule) -> Plan {
    plan(&Checkpoint::open(tiny("qwen3_moe")).unwrap(), router, |_| keep(8, &[0, 3, 5]))
}

#[test]
fn a_plan_for_another_model() {
    let mut plan = kept(RouterRule::DropRows);
    plan.fingerprint = litemoe_core::Fingerprint::new("another");
    let error = not_written(&plan, &mut copies, &["another"]);
    assert!(matches!(error, ModelError::Plan { source: PlanError::OtherModel { .. }, .. }));
}

#[test]
fn a_plan_that_names_what_is_not_there() {
    let mut plan = kept(RouterRule::DropRows);
    plan.layers.insert(LayerId::decoder(9), keep(8, &[0, 1, 2]));
    not_written(&plan, &mut copies, &["layer 9"]);
}

#[test]
fn uneven_layers_cannot_drop_rows_but_can_redirect() {
    let mut plan = kept(RouterRule::DropRows);
    plan.layers.insert(LayerId::decoder(1), keep(8, &[0, 1]));
    not_written(&plan, &mut copies, &["layer 1 keeps 2", "layer 0 keeps 3", "drop_rows"]);
    plan.options.router = RouterRule::RedirectSelected;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("proxy");
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    write_proxy(&checkpoint, &plan, &target, &mut copies).unwrap();
    let proxy = Checkpoint::open(&target).unwrap();
    assert_eq!(proxy.moe_layers()[1].n_experts, 2);
    Model::load(&proxy, &Device::flex()).unwrap();

    // A proxy is not a foundation; opening it checks its plan.
    let again = write_proxy(&proxy, &plan, &folder.path().join("again"), &mut copies).unwrap_err();
    assert!(matches!(again, ModelError::IsProxy { .. }));
    let text = fs::read_to_string(target.join("plan.json")).unwrap();
    let later = text.replace("\"version\":1", "\"version\":7");
    assert_ne!(later, text);
    fs::write(target.join("plan.json"), &later).unwrap();
    assert!(matches!(Checkpoint::open(&target), Err(ModelError::Changed { .. })));
    let mut later: serde_json::Map<_, _> = serde_json::from_str(&later).unwrap();
    later.remove("sha256").unwrap();
    fs::write(target.join("plan.json"), serde_json::to_string(&later).unwrap()).unwrap();
    let error = Checkpoint::open(&target).unwrap_err().to_string();
    assert!(error.contains("plan.json") && error.contains("version 7"), "{error}");
    fs::remove_file(target.join("plan.json")).unwrap();
    assert!(Checkpoint::open(&target).unwrap_err().to_string().contains("plan.json"));
}

#[test]
fn merged_experts_that_do_not_fit() {
    let full = |value: f32, shape: [usize; 2]| Tensor::<2>::full(shape, value, &Device::flex());
    let expert = |value: f32, width: usize| ExpertWeights {
        gate: Some(full(value, [32, width])),
        up: full(value, [32, width]),
        down: full(value, [width, 32]),
        biases: None,
    };
    let plan = kept(RouterRule::DropRows);
    let in_second_layer = |made: Vec<Option<ExpertWeights>>| {
        move |layer: LayerId, plan: &LayerPlan| {
            if layer.block == 1 { Ok(made.clone()) } else { copies(layer, plan) }
        }
    };
    let wide = vec![None, Some(expert(1.0, 63)), None];
    not_written(&plan, &mut in_second_layer(wide), &["layer 1 expert 3", "63", "64"]);
    let mut ungated = expert(1.0, 64);
    ungated.gate = None;
    not_written(
        &plan,
        &mut in_second_layer(vec![Some(ungated), None, None]),
        &["layer 1 expert 0"],
    );
    let endless = vec![None, None, Some(expert(f32::NAN, 64))];
    not_written(&plan, &mut in_second_layer(endless), &["layer 1 expert 5", "F32"]);
    not_written(&plan, &mut in_second_layer(vec![None]), &["layer 1", "1 experts", "keeps 3"]);
    let failing = &mut |_: LayerId, _: &LayerPlan| Err("the disk is gone".into());
    not_written(&plan, failing, &["layer 0", "the disk is gone"]);
}

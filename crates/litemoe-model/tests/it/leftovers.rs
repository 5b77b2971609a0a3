//! What changes nothing is named and not refused: leftover tensors and keys, indices that disagree with their shards,
//! number formats. Expectations are those of transformers, see `goldens/README.md`.

use std::collections::BTreeMap;
use std::fs;

use burn::tensor::Device;
use litemoe_core::RouterRule;
use litemoe_model::{Checkpoint, LeftoverReason, Model, ModelError};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::edit::{Copy, Raw};
use crate::golden::{logits_of, reference};
use crate::proxy::write;
use crate::setup::{TINY, error, keep, load, logits, plan, row, some, tiny};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

fn raw(dtype: Dtype, shape: &[usize]) -> Raw {
    let n: usize = shape.iter().product();
    Raw { dtype, shape: shape.to_vec(), bytes: vec![1; n * dtype.bitsize() / 8] }
}

/// Names of a copy's leftovers with their reasons.
fn leftovers(copy: &Copy) -> Vec<(LeftoverReason, String)> {
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
    let found = checkpoint.leftovers().iter();
    found.map(|leftover| (leftover.reason, leftover.name.to_string())).collect()
}

/// Asserts that a copy has the logits of its fixture's reference.
#[track_caller]
fn expect_reference(copy: &Copy, name: &str) {
    let (_, expected) = reference(&tiny(name));
    let error = error(&logits_of(copy.path()), &expected);
    assert!(error < 5e-6, "{name}: {error}");
}

#[track_caller]
fn refused(copy: &Copy) -> ModelError {
    Checkpoint::open(copy.path()).unwrap_err()
}

#[test]
fn fixtures_have_none() {
    for name in TINY {
        assert_eq!(leftovers(&Copy::of(name)), [], "{name}");
    }
}

#[test]
fn tensors_that_change_nothing_are_named() {
    let added = [
        (LeftoverReason::Buffer, "model.layers.0.attn.bias", raw(Dtype::BOOL, &[1, 1, 8, 8])),
        (LeftoverReason::Buffer, "model.layers.0.attn.masked_bias", raw(Dtype::F32, &[])),
        (
            LeftoverReason::Buffer,
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            raw(Dtype::F32, &[8]),
        ),
        (LeftoverReason::Buffer, "position_ids", raw(Dtype::I64, &[1, 8])),
        (LeftoverReason::CacheScale, "model.layers.1.self_attn.k_scale", raw(Dtype::F32, &[])),
        (LeftoverReason::CacheScale, "model.layers.1.self_attn.v_scale", raw(Dtype::F8_E4M3, &[1])),
        (LeftoverReason::Tower, "vision_model.patch.weight", raw(Dtype::BF16, &[4, 4])),
        (LeftoverReason::OtherHead, "v_head.summary.weight", raw(Dtype::F32, &[1, 64])),
    ];
    let plain = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        tensors.extend(added.iter().map(|(_, name, raw)| (name.to_string(), raw.clone())));
    });
    let named: Vec<_> = added.map(|(reason, name, _)| (reason, name.to_owned())).into();
    assert_eq!(leftovers(&copy), named);
    expect_reference(&copy, "qwen3_moe");
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
    assert_eq!(checkpoint.fingerprint(), plain.fingerprint());
    assert_eq!(checkpoint.bytes(), plain.bytes());
    // A proxy has none of them.
    let kept = plan(&checkpoint, RouterRule::DropRows, |layer| keep(layer.n_experts, &[0, 3, 5]));
    let proxy = Checkpoint::open(&write(&checkpoint, &kept).dir).unwrap();
    assert_eq!(proxy.leftovers(), []);
}

#[test]
fn tensors_that_may_change_something_are_refused() {
    for (family, name, shape) in [
        ("qwen3_moe", "model.layers.0.self_attn.q_proj.bias", &[64][..]),
        ("qwen3_moe", "model.layers.0.self_attn.q_proj.weight_scale", &[1]),
        ("qwen3_moe", "model.layers.0.self_attn.k_scale", &[64, 64]),
        ("qwen3_moe", "position_ids", &[1, 8]),
        ("qwen3_moe", "model.layers.2.input_layernorm.weight", &[64]),
        ("qwen3_moe", "model.layers.0.mlp.experts.8.up_proj.weight", &[32, 64]),
        ("mixtral", "model.layers.0.self_attn.q_norm.weight", &[8]),
    ] {
        let copy = Copy::of(family).tensors(|tensors| {
            tensors.insert(name.to_owned(), raw(Dtype::F32, shape));
        });
        let error = refused(&copy);
        assert!(
            matches!(&error, ModelError::UnusedTensor { tensor, .. } if tensor == name),
            "{error}"
        );
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
}

#[test]
fn blocks_that_predict_further_tokens_are_named() {
    let copy = Copy::of("deepseek_v3").tensors(|tensors| {
        tensors.insert("model.layers.3.eh_proj.weight".into(), raw(Dtype::F8_E4M3, &[48, 96]));
        tensors.insert("model.layers.3.mlp.gate.weight".into(), raw(Dtype::F32, &[8, 48]));
    });
    let named = ["model.layers.3.eh_proj.weight", "model.layers.3.mlp.gate.weight"];
    let named = named.map(|name| (LeftoverReason::FurtherTokens, name.to_owned()));
    assert_eq!(leftovers(&copy), named);
    expect_reference(&copy, "deepseek_v3");
}

/// The rows of a matrix in reverse order.
fn reversed(matrix: &Raw) -> Raw {
    let rows = (0..matrix.shape[0]).rev().flat_map(|row| matrix.row(row).to_vec());
    Raw { bytes: rows.collect(), ..matrix.clone() }
}

#[test]
fn tied_embeddings_are_tied_as_in_transformers() {
    let (_, expected) = reference(&tiny("windowed"));
    let equal = Copy::of("windowed").tensors(|tensors| {
        tensors.insert(HEAD.into(), tensors[EMBEDDING].clone());
    });
    expect_reference(&equal, "windowed");
    // Another head than the embedding is used.
    let other = Copy::of("windowed").tensors(|tensors| {
        tensors.insert(HEAD.into(), reversed(&tensors[EMBEDDING]));
    });
    let found = logits_of(other.path());
    let vocab = Checkpoint::open(tiny("windowed")).unwrap().config().vocab;
    let mirrored: Vec<f32> =
        found.chunks(vocab).flat_map(|row| row.iter().rev().copied()).collect();
    assert!(error(&found, &expected) > 0.1 && error(&mirrored, &expected) < 5e-6);
    // The embedding may be stored under the head's name alone.
    let head = Copy::of("windowed").tensors(|tensors| {
        let head = tensors.remove(EMBEDDING).unwrap();
        tensors.insert(HEAD.into(), head);
    });
    expect_reference(&head, "windowed");
    let plain = Checkpoint::open(tiny("windowed")).unwrap();
    let checkpoint = Checkpoint::open(head.path()).unwrap();
    assert_eq!(checkpoint.fingerprint(), plain.fingerprint());
}

#[test]
fn tied_embeddings_of_an_encoder_decoder() {
    let names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    for name in names {
        let alone = Copy::of("switch_transformers").tensors(|tensors| {
            let shared = tensors.remove("shared.weight").unwrap();
            tensors.insert(name.into(), shared);
        });
        expect_reference(&alone, "switch_transformers");
    }
    let copies = Copy::of("switch_transformers").tensors(|tensors| {
        for name in names {
            tensors.insert(name.into(), tensors["shared.weight"].clone());
        }
    });
    expect_reference(&copies, "switch_transformers");
    let [encoder, decoder] = names.map(|name| (LeftoverReason::TiedCopy, name.to_owned()));
    assert_eq!(leftovers(&copies), [decoder, encoder]);
    // transformers would not tie it.
    let other = Copy::of("switch_transformers").tensors(|tensors| {
        tensors.insert(names[0].into(), reversed(&tensors["shared.weight"]));
    });
    assert!(
        matches!(refused(&other), ModelError::UnusedTensor { tensor, .. } if tensor == names[0])
    );
}

/// Widens a tensor to f32 or f64, without loss.
fn widen(tensor: &mut Raw, to: Dtype) {
    let values: Vec<f64> = match tensor.dtype {
        Dtype::BF16 => halves(tensor, |half| half::bf16::from_le_bytes(half).to_f64()),
        Dtype::F16 => halves(tensor, |half| half::f16::from_le_bytes(half).to_f64()),
        Dtype::F32 => {
            let values = tensor.bytes.as_chunks().0.iter();
            values.map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect()
        }
        _ => return,
    };
    tensor.dtype = to;
    tensor.bytes = match to {
        Dtype::F64 => values.into_iter().flat_map(f64::to_le_bytes).collect(),
        _ => values.into_iter().flat_map(|value| (value as f32).to_le_bytes()).collect(),
    };
}

fn halves(tensor: &Raw, widen: fn([u8; 2]) -> f64) -> Vec<f64> {
    tensor.bytes.as_chunks().0.iter().map(|&half| widen(half)).collect()
}

/// Stores every third tensor in f64 and every third in f32.
fn mix(tensors: &mut BTreeMap<String, Raw>) {
    for (index, tensor) in tensors.values_mut().enumerate() {
        match index % 3 {
            0 => widen(tensor, Dtype::F64),
            1 => widen(tensor, Dtype::F32),
            _ => {}
        }
    }
}

#[test]
fn number_formats_may_be_mixed() {
    for name in TINY {
        let copy = Copy::of(name).tensors(mix);
        expect_reference(&copy, name);
        let (mixed, plain) = (load(copy.path()), load(tiny(name)));
        let streamed = Checkpoint::open(copy.path()).unwrap();
        let streamed = Model::stream(&streamed, &Device::flex()).unwrap();
        let expected = logits(&plain, &[row(9)]);
        assert_eq!(logits(&mixed, &[row(9)]), expected, "{name}");
        assert_eq!(logits(&streamed, &[row(9)]), expected, "{name}");
    }
}

/// A proxy stores a layer's experts in one format, which holds all their values.
#[test]
fn a_proxy_of_mixed_formats_has_the_same_values() {
    for name in TINY {
        let copy = Copy::of(name).tensors(mix);
        let [mixed, plain] = [copy.path(), &tiny(name)].map(|dir| {
            let checkpoint = Checkpoint::open(dir).unwrap();
            let kept = plan(&checkpoint, RouterRule::DropRows, |layer| {
                keep(layer.n_experts, &some(layer))
            });
            let proxy = write(&checkpoint, &kept);
            let opened = Checkpoint::open(&proxy.dir).unwrap();
            for (layer, of_proxy) in checkpoint.moe_layers().iter().zip(opened.moe_layers()) {
                if name != "gpt_oss_mxfp4" {
                    assert_eq!(layer.expert_bytes, of_proxy.expert_bytes, "{name}");
                }
            }
            logits(&load(&proxy.dir), &[row(9)])
        });
        assert_eq!(mixed, plain, "{name}");
    }
}

#[test]
fn f64_is_rounded_to_nearest() {
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        for tensor in tensors.values_mut() {
            widen(tensor, Dtype::F64);
            let nudge = 1.0 + 2f64.powi(-30);
            let nudged = tensor.bytes.as_chunks().0.iter();
            let nudged = nudged.map(|&bytes| f64::from_le_bytes(bytes) * nudge);
            tensor.bytes = nudged.flat_map(f64::to_le_bytes).collect();
        }
    });
    expect_reference(&copy, "qwen3_moe");
    assert_eq!(logits(&load(copy.path()), &[row(9)]), logits(&load(tiny("qwen3_moe")), &[row(9)]));
    let large = Copy::of("qwen3_moe").tensors(|tensors| {
        let norm = tensors.get_mut("model.norm.weight").unwrap();
        widen(norm, Dtype::F64);
        norm.bytes[8..16].copy_from_slice(&1e300f64.to_le_bytes());
    });
    let checkpoint = Checkpoint::open(large.path()).unwrap();
    let error = Model::load(&checkpoint, &Device::flex()).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { index: 1, .. }), "{error}");
}

const SHARDS: [&str; 2] = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"];

fn with_index(change: impl FnOnce(&mut Map<String, Value>)) -> Copy {
    Copy::of("windowed").json("model.safetensors.index.json", change)
}

#[test]
fn indices_name_shards_and_nothing_more() {
    let exchanged = with_index(|index| {
        for (_, shard) in index["weight_map"].as_object_mut().unwrap() {
            if let Some(at) = SHARDS.iter().position(|name| *shard == *name) {
                *shard = json!(SHARDS[1 - at]);
            }
        }
    });
    let unlisted = with_index(|index| {
        index["weight_map"].as_object_mut().unwrap().remove("model.norm.weight");
    });
    let total = with_index(|index| index["metadata"]["total_size"] = json!(3));
    for copy in [exchanged, unlisted, total] {
        expect_reference(&copy, "windowed");
        assert_eq!(leftovers(&copy), []);
    }
    let ghost = with_index(|index| index["weight_map"]["ghost"] = json!(SHARDS[0]));
    expect_reference(&ghost, "windowed");
    assert_eq!(leftovers(&ghost), [(LeftoverReason::IndexEntry, "ghost".to_owned())]);
}

/// Adds the final norm of the third shard to the first, times `factor`.
fn norm_twice(factor: f32) -> Copy {
    let copy = Copy::of("windowed");
    let third = crate::edit::read(&copy.file("model-00003-of-00003.safetensors"));
    let mut norm = third["model.norm.weight"].clone();
    for half in norm.bytes.as_chunks_mut::<2>().0 {
        *half =
            half::bf16::from_f32(half::bf16::from_le_bytes(*half).to_f32() * factor).to_le_bytes();
    }
    let path = copy.file(SHARDS[0]);
    let mut first = crate::edit::read(&path);
    first.insert("model.norm.weight".to_owned(), norm);
    fs::write(path, crate::edit::encode(&first)).unwrap();
    copy
}

#[test]
fn a_tensor_in_two_shards_must_be_the_same() {
    expect_reference(&norm_twice(1.0), "windowed");
    // transformers would take the last.
    let error = refused(&norm_twice(2.0));
    assert!(matches!(&error, ModelError::TwoTensors { .. }), "{error}");
    for part in ["model.norm.weight", SHARDS[0], "model-00003-of-00003.safetensors"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_tensor_that_the_model_needs_is_missing_whatever_the_index_says() {
    let copy = Copy::of("windowed");
    let path = copy.file("model-00003-of-00003.safetensors");
    let mut third = crate::edit::read(&path);
    third.remove("model.norm.weight");
    fs::write(path, crate::edit::encode(&third)).unwrap();
    let error = refused(&copy);
    assert!(
        matches!(&error, ModelError::MissingTensor { tensor, .. } if tensor == "model.norm.weight"),
        "{error}"
    );
}

/// Every key that transformers 5 or 4 writes, with the fixture's or the default value, is read without a note.
#[test]
fn keys_that_transformers_writes_are_read() {
    let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/configs.json");
    let all: BTreeMap<String, Map<String, Value>> =
        serde_json::from_slice(&fs::read(goldens).unwrap()).unwrap();
    assert_eq!(all.len(), 11);
    // Defaults of transformers 4, whose `to_dict` has all of them.
    let older = json!({
        "add_cross_attention": false, "bad_words_ids": null, "begin_suppress_tokens": null,
        "cross_attention_hidden_size": null, "diversity_penalty": 0.0, "do_sample": false,
        "early_stopping": false, "encoder_no_repeat_ngram_size": 0,
        "exponential_decay_length_penalty": null, "finetuning_task": null,
        "forced_bos_token_id": null, "forced_eos_token_id": null, "is_decoder": false,
        "length_penalty": 1.0, "max_length": 20, "min_length": 0, "no_repeat_ngram_size": 0,
        "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1, "output_scores": false,
        "prefix": null, "pruned_heads": {}, "remove_invalid_values": false,
        "repetition_penalty": 1.0, "return_dict_in_generate": false, "sep_token_id": null,
        "suppress_tokens": null, "task_specific_params": null, "temperature": 1.0,
        "tf_legacy_loss": false, "tie_encoder_decoder": false, "tokenizer_class": null, "top_k": 50,
        "top_p": 1.0, "torchscript": false, "typical_p": 1.0, "use_bfloat16": false,
        "auto_map": {"AutoConfig": "configuration.Config"}, "torch_dtype": "bfloat16",
    });
    for (family, config) in all {
        let copy = Copy::of(&family).config(|found| {
            found.extend(config);
            found.extend(older.as_object().unwrap().clone());
        });
        let plain = Checkpoint::open(tiny(&family)).unwrap();
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        assert_eq!(checkpoint.leftovers(), [], "{family}");
        assert_eq!(checkpoint.config(), plain.config(), "{family}");
    }
}

#[test]
fn unknown_keys_without_effect_are_named() {
    let copy = Copy::of("qwen3_moe").config(|config| {
        config.extend([
            ("quantization_config".to_owned(), Value::Null),
            ("resid_dropout".to_owned(), json!(0.1)),
            ("unsloth_fixed".to_owned(), json!(true)),
            ("hub_version".to_owned(), json!("2")),
        ]);
        config["rope_parameters"]["mrope_section"] = json!(null);
    });
    let names = [
        "hub_version",
        "quantization_config",
        "resid_dropout",
        "rope_parameters.mrope_section",
        "unsloth_fixed",
    ];
    assert_eq!(leftovers(&copy), names.map(|name| (LeftoverReason::Key, name.to_owned())));
    expect_reference(&copy, "qwen3_moe");
}

#[test]
fn unknown_keys_that_may_have_an_effect_are_refused() {
    for key in [
        "_attn_logit_scale",
        "_sliding_window_pattern",
        "attn_dropout_free_scale",
        "rope_parameters._factor",
        "rope_parameters.attention_dropout",
        "rope_parameters.hub_version",
    ] {
        let copy =
            Copy::of("qwen3_moe").config(|config| match key.strip_prefix("rope_parameters.") {
                Some(inner) => config["rope_parameters"][inner] = json!(3.0),
                None => drop(config.insert(key.to_owned(), json!(3.0))),
            });
        let error = refused(&copy);
        assert!(
            matches!(&error, ModelError::UnknownKey { key: named, .. } if named == key),
            "{error}"
        );
    }
}

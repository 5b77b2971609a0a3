//! Invalid files and rows are refused with an error that names the problem.

use std::fs;

use burn::tensor::Device;
use litemoe_adapter::{AdapterError, AdapterRecord, RECORD_FILE, RowProblem, evaluate, peft};
use litemoe_core::{MoeModel, Sequence};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{golden, model};
use crate::peft::{copy, set};

fn refused(dir: &std::path::Path) -> AdapterError {
    peft::read(dir, model().linear_sites(), &Device::flex()).unwrap_err()
}

#[test]
fn options_that_change_what_is_computed_are_refused_by_name() {
    let cases = [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("lora_only")),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("target_parameters", json!(["self_attn.q_proj.weight"])),
        ("layer_replication", json!([[0, 2]])),
        ("trainable_token_indices", json!([5])),
        ("alora_invocation_tokens", json!([5])),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("loftq")),
        ("use_rslora", json!("yes")),
        ("r", json!(0)),
        ("r", json!("8")),
        ("lora_alpha", Value::Null),
        ("rank_pattern", json!({"q_proj": -1})),
        ("alpha_pattern", json!(["q_proj"])),
        ("target_modules", json!([1])),
    ];
    for (key, value) in cases {
        let (_keep, dir) = copy("plain");
        set(&dir, key, value.clone());
        let error = refused(&dir);
        assert!(
            matches!(&error, AdapterError::Unsupported { key: named, .. } if named == key),
            "{key} = {value}: {error}"
        );
    }
}

#[test]
fn options_that_change_nothing_are_accepted() {
    for (key, value) in [
        ("lora_dropout", json!(0.1)),
        ("inference_mode", json!(false)),
        ("peft_version", json!("0.14.0")),
        ("init_lora_weights", json!("gaussian")),
        ("some_new_key", Value::Null),
        ("exclude_modules", json!([])),
    ] {
        let (_keep, dir) = copy("plain");
        set(&dir, key, value);
        peft::read(&dir, model().linear_sites(), &Device::flex()).unwrap();
    }
}

#[test]
fn an_unknown_option_is_refused() {
    let (_keep, dir) = copy("plain");
    set(&dir, "use_something_new", json!(true));
    let error = refused(&dir);
    assert!(matches!(&error, AdapterError::UnknownKey { key, .. } if key == "use_something_new"));
}

#[test]
fn a_missing_option_is_named() {
    for key in ["r", "lora_alpha", "peft_type"] {
        let (_keep, dir) = copy("plain");
        let path = dir.join(peft::CONFIG_FILE);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.as_object_mut().unwrap().remove(key);
        fs::write(path, config.to_string()).unwrap();
        let error = refused(&dir);
        assert!(matches!(error, AdapterError::MissingKey { key: named, .. } if named == key));
    }
}

#[test]
fn a_pattern_that_cannot_be_read_is_named() {
    let (_keep, dir) = copy("plain");
    set(&dir, "rank_pattern", json!({"(?<!x": 2}));
    let error = refused(&dir);
    assert!(matches!(error, AdapterError::Pattern { key: "rank_pattern", .. }), "{error}");
}

#[test]
fn a_target_that_the_model_lacks_is_named() {
    for targets in [json!(["qkv_proj", "xkv_proj"]), json!(".*qkv_proj")] {
        let (_keep, dir) = copy("plain");
        set(&dir, "target_modules", targets);
        let error = refused(&dir);
        assert!(
            matches!(&error, AdapterError::Unsupported { key, .. } if key == "target_modules"),
            "{error}"
        );
        assert!(error.to_string().contains("q_proj"), "{error}");
    }
}

#[test]
fn a_claimed_target_without_tensors_is_named() {
    let (_keep, dir) = copy("plain");
    set(&dir, "target_modules", json!(["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]));
    let error = refused(&dir);
    assert!(
        matches!(&error, AdapterError::MissingTensor { tensor, .. } if tensor.contains("down_proj")),
        "{error}"
    );
}

#[test]
fn a_tensor_that_nothing_claims_is_named() {
    let (_keep, dir) = copy("plain");
    set(&dir, "target_modules", json!(["q_proj", "k_proj", "v_proj"]));
    let error = refused(&dir);
    assert!(
        matches!(&error, AdapterError::UnknownTensors { count: 6, first, .. } if first.contains("o_proj")),
        "{error}"
    );
    let (_keep, dir) = copy("plain");
    set(&dir, "exclude_modules", json!(["o_proj"]));
    assert!(matches!(refused(&dir), AdapterError::UnknownTensors { count: 6, .. }));
}

type Change = fn(&mut String, &mut Vec<usize>, &mut Vec<u8>);

/// Rewrites the tensor file with a change to the tensor `*.0.self_attn.q_proj.lora_A.weight`.
fn change_tensor(dir: &std::path::Path, change: Change) {
    let path = dir.join(peft::MODEL_FILE);
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    for (name, shape, data) in &mut tensors {
        if name.ends_with(".0.self_attn.q_proj.lora_A.weight") {
            change(name, shape, data);
        }
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named() {
    let (_keep, dir) = copy("plain");
    change_tensor(&dir, |_, shape, _| shape.reverse());
    let error = refused(&dir);
    assert!(
        matches!(&error, AdapterError::Shape { found, expected: [4, 32], .. } if *found == [32, 4]),
        "{error}"
    );
}

#[test]
fn a_tensor_with_nan_is_named() {
    let (_keep, dir) = copy("plain");
    change_tensor(&dir, |_, _, data| data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(matches!(refused(&dir), AdapterError::NotFinite { .. }));
}

#[test]
fn a_tensor_under_another_name_is_named() {
    let (_keep, dir) = copy("plain");
    change_tensor(&dir, |name, _, _| *name = name.replace("lora_A", "lora_A.other"));
    let error = refused(&dir);
    assert!(matches!(&error, AdapterError::UnknownTensors { count: 1, .. }), "{error}");
}

#[test]
fn an_expert_layout_is_refused() {
    let (_keep, dir) = copy("plain");
    change_tensor(&dir, |name, _, _| {
        *name = "base_model.model.model.layers.0.mlp.experts.lora_A.weight".to_owned();
    });
    assert!(refused(&dir).to_string().contains("mlp.experts.lora_A"));
}

#[test]
fn a_truncated_file_is_refused() {
    let (_keep, dir) = copy("plain");
    let path = dir.join(peft::MODEL_FILE);
    let bytes = fs::read(&path).unwrap();
    for len in [0, 7, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(matches!(refused(&dir), AdapterError::Safetensors { .. }));
    }
}

#[test]
fn a_directory_that_is_no_adapter_is_refused() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(refused(dir.path()), AdapterError::NotAnAdapter { .. }));
    fs::copy(golden("plain").join(peft::CONFIG_FILE), dir.path().join(peft::CONFIG_FILE)).unwrap();
    assert!(matches!(refused(dir.path()), AdapterError::NotAnAdapter { .. }));
    fs::write(dir.path().join("adapter_model.bin"), "pickle").unwrap();
    assert!(matches!(refused(dir.path()), AdapterError::Pickle { .. }));
}

#[test]
fn a_configuration_that_is_no_json_is_refused() {
    let (_keep, dir) = copy("plain");
    fs::write(dir.join(peft::CONFIG_FILE), "{\"r\": 8,").unwrap();
    assert!(matches!(refused(&dir), AdapterError::Json { .. }));
}

#[test]
fn a_record_of_another_version_or_shape_is_refused() {
    let dir = TempDir::new().unwrap();
    assert!(AdapterRecord::read(dir.path()).unwrap().is_none());
    let write = |text: &str| fs::write(dir.path().join(RECORD_FILE), text).unwrap();
    write(r#"{"version": 99, "new": true}"#);
    let error = AdapterRecord::read(dir.path()).unwrap_err();
    assert!(matches!(error, AdapterError::RecordVersion { found: 99, .. }), "{error}");
    write(r#"{"version": 1, "scale": 0.5}"#);
    let error = AdapterRecord::read(dir.path()).unwrap_err();
    assert!(matches!(error, AdapterError::RecordVersion { found: 1, .. }), "{error}");
    write(r#"{"version": 2}"#);
    assert!(matches!(AdapterRecord::read(dir.path()).unwrap_err(), AdapterError::Json { .. }));
}

#[test]
fn rows_that_the_model_cannot_take_are_refused() {
    let model = model();
    let row = |tokens: &[u32], completion: &[bool]| Sequence {
        tokens: tokens.to_vec(),
        completion: completion.to_vec(),
        encoder: None,
    };
    let good = row(&[1, 2], &[false, true]);
    let cases = [
        (row(&[1, 2], &[true]), RowProblem::Mask { tokens: 2, mask: 1 }),
        (row(&[1, 2], &[false, false]), RowProblem::NoCompletion),
        (row(&[], &[]), RowProblem::NoCompletion),
        (row(&[1, 2], &[true, true]), RowProblem::NoPrompt),
        (
            row(&[1; 65], &[&[false][..], &[true; 64]].concat()),
            RowProblem::TooLong { tokens: 65, max: 64 },
        ),
        (row(&[1, 128], &[false, true]), RowProblem::Token { token: 128, vocab: 128 }),
    ];
    let encoded = Sequence { encoder: Some(vec![1]), ..good.clone() };
    let cases = cases.into_iter().chain([(encoded, RowProblem::Encoder { tokens: 1 })]);
    for (bad, expected) in cases {
        let error = evaluate(&model, &[good.clone(), bad], None, 64, &mut |_| ()).unwrap_err();
        assert!(matches!(error, AdapterError::Row { row: 1, problem, .. } if problem == expected));
    }
    let error = evaluate(&model, &[], None, 64, &mut |_| ()).unwrap_err();
    assert!(matches!(error, AdapterError::NoRows { .. }));
}

//! Options of PEFT and names of tensors that are read, and options that are refused.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use litemoe_adapter::{AdapterError, peft};
use litemoe_core::{Adapters, MoeModel, Site};
use serde_json::{Value, json};

use crate::experts::{tensors, write_tensors};
use crate::fixture::{model, same_bits};
use crate::peft::{copy, set};
use crate::routers::expect_peft;

fn read(dir: &Path) -> Result<Adapters, AdapterError> {
    let read = peft::read(dir, model().linear_sites(), &Device::flex())?;
    Ok(read.adapters)
}

/// Sites of an adapter.
fn sites(adapters: &Adapters) -> Vec<&str> {
    adapters.loras().map(|(site, _)| site.as_str()).collect()
}

/// Renames the tensors of an adapter; `None` removes one.
fn rename(dir: &Path, to: impl Fn(&str) -> Option<String>) {
    let renamed = tensors(dir).into_iter().filter_map(|(name, tensor)| Some((to(&name)?, tensor)));
    write_tensors(dir, &renamed.collect::<BTreeMap<_, _>>());
}

#[test]
fn layers_that_peft_was_limited_to() {
    let adapters = expect_peft("layers", "granitemoe");
    let expected = [0, 2].map(|layer| format!("model.layers.{layer}.self_attn.q_proj"));
    assert_eq!(sites(&adapters), expected);
}

#[test]
fn look_around_selects_what_it_does_in_peft() {
    let adapters = expect_peft("look_around", "granitemoe");
    let expected = [0, 2].map(|layer| {
        ["k_proj", "q_proj"].map(|leaf| format!("model.layers.{layer}.self_attn.{leaf}"))
    });
    assert_eq!(sites(&adapters), expected.as_flattened());
    let of = |site: &str| {
        let lora = adapters.at(site).unwrap().lora();
        (lora.rank(), lora.scale)
    };
    assert_eq!(of("model.layers.0.self_attn.q_proj"), (3, (8.0 / 3.0) as f32));
    assert_eq!(of("model.layers.2.self_attn.q_proj"), (2, 4.0));
    assert_eq!(of("model.layers.0.self_attn.k_proj"), (2, 2.5));
}

/// Each value with the layers that `check_target_module_exists` of PEFT 0.21 finds for `q_proj`.
#[test]
fn layers_are_numbered_as_in_peft() {
    let (_keep, dir) = copy("plain");
    let (all, original) = (read(&dir).unwrap(), tensors(&dir));
    set(&dir, "target_modules", json!(["q_proj"]));
    for (layers, pattern, found) in [
        (json!(1), Value::Null, &[1][..]),
        (json!([0, 2, 99]), json!([]), &[0, 2]),
        (json!([0, 2]), json!(""), &[0, 2]),
        (json!([1]), json!("layers"), &[1]),
        (json!([1]), json!(["blocks", "layers"]), &[1]),
        (json!([1]), json!("l.*?rs"), &[1]),
        (json!([]), Value::Null, &[0, 1, 2]),
        (Value::Null, json!("layers"), &[0, 1, 2]),
    ] {
        set(&dir, "layers_to_transform", layers.clone());
        set(&dir, "layers_pattern", pattern.clone());
        let of = |layer: &usize| format!("model.layers.{layer}.self_attn.q_proj");
        let named: Vec<String> = found.iter().map(of).collect();
        let mut left = original.clone();
        left.retain(|name, _| named.iter().any(|site| name.contains(&format!("{site}."))));
        write_tensors(&dir, &left);
        let is_named = |site: &&str| named.iter().any(|name| name == site);
        let update = |site: &str| (Site::new(site), all.at(site).unwrap().clone());
        let expected: Adapters = sites(&all).into_iter().filter(is_named).map(update).collect();
        assert!(same_bits(&read(&dir).unwrap(), &expected), "{layers} {pattern}");
    }
}

#[test]
fn layers_that_cannot_be_meant_are_refused() {
    for (layers, pattern, targets, named) in [
        (json!([7]), Value::Null, json!(["q_proj"]), "none of these layers"),
        (json!([1]), json!("blocks"), json!(["q_proj"]), "none of these layers"),
        (json!([1]), json!("lay|ers"), json!(["q_proj"]), "none of these layers"),
        (json!([1.5]), Value::Null, json!(["q_proj"]), "a layer's number"),
        (json!("1"), Value::Null, json!(["q_proj"]), "a layer's number"),
        (json!([1]), Value::Null, json!("all-linear"), "only names in target_modules"),
        (json!([1]), Value::Null, json!(".*q_proj"), "only names in target_modules"),
        (json!([1]), json!("("), json!(["q_proj"]), "`layers_pattern`"),
        (json!([1]), json!(3), json!(["q_proj"]), "`layers_pattern`"),
    ] {
        let (_keep, dir) = copy("plain");
        set(&dir, "layers_to_transform", layers.clone());
        set(&dir, "layers_pattern", pattern.clone());
        set(&dir, "target_modules", targets);
        let error = read(&dir).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("adapter_config.json"), "{error}");
    }
}

#[test]
fn tensors_may_be_named_as_in_memory() {
    let (_keep, plain) = copy("plain");
    let expected = read(&plain).unwrap();
    let inner = |name: &str| name.replace(".weight", ".default.weight");
    let bare = |name: &str| name.replace("base_model.model.", "");
    let rules: [&dyn Fn(&str) -> String; 3] = [&inner, &bare, &|name| bare(&inner(name))];
    for rule in rules {
        let (_keep, dir) = copy("plain");
        rename(&dir, |name| Some(rule(name)));
        assert!(same_bits(&read(&dir).unwrap(), &expected));
    }
}

#[test]
fn a_tensor_under_two_names_is_refused() {
    let (_keep, dir) = copy("plain");
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let mut all = tensors(&dir);
    let second = name.replace("lora_A", "lora_A.default");
    all.insert(second.clone(), all[name].clone());
    write_tensors(&dir, &all);
    let error = read(&dir).unwrap_err();
    assert!(matches!(error, AdapterError::TwoNames { .. }), "{error}");
    assert!(error.to_string().contains(name) && error.to_string().contains(&second), "{error}");
}

#[test]
fn errors_name_tensors_as_the_file_does() {
    let (_keep, dir) = copy("plain");
    let stray = "model.layers.0.self_attn.q_proj.lora_C.weight";
    rename(&dir, |name| {
        let is_one = name.ends_with("layers.0.self_attn.q_proj.lora_A.weight");
        Some(if is_one { stray.to_owned() } else { name.to_owned() })
    });
    let error = read(&dir).unwrap_err();
    assert!(
        matches!(&error, AdapterError::UnknownTensors { first, .. } if first == stray),
        "{error}"
    );
}

#[test]
fn excluded_modules_may_be_a_pattern_with_look_around() {
    let (_keep, dir) = copy("plain");
    set(&dir, "exclude_modules", json!(r".*layers\.(?=[02])\d\..*(?<!q_proj)"));
    rename(&dir, |name| {
        (name.contains("layers.1.") || name.contains("q_proj")).then(|| name.to_owned())
    });
    assert_eq!(read(&dir).unwrap().len(), 4 + 2);
}

/// Lists of target modules are copied between models.
#[test]
fn names_that_the_model_lacks_are_no_targets() {
    let (_keep, dir) = copy("plain");
    let expected = read(&dir).unwrap();
    set(&dir, "target_modules", json!(["q_proj", "k_proj", "v_proj", "o_proj", "w1", "c_attn"]));
    assert!(same_bits(&read(&dir).unwrap(), &expected));
    set(&dir, "target_modules", json!(["q_porj", "k_proj", "v_proj", "o_proj"]));
    let error = read(&dir).unwrap_err();
    assert!(matches!(error, AdapterError::UnknownTensors { count: 6, .. }), "{error}");
}

/// `(a|aa)+$` with look-around takes exponentially many steps.
#[test]
fn a_pattern_that_takes_too_long_is_refused() {
    for key in ["target_modules", "exclude_modules"] {
        let (_keep, dir) = copy("plain");
        set(&dir, key, json!(r"(?:(?:[a-z0-9_.](?=)|[a-z0-9_.]{2}(?=))+)+!"));
        let error = read(&dir).unwrap_err();
        assert!(matches!(&error, AdapterError::Pattern { .. }), "{error}");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn features_that_are_not_read_are_refused_in_one_line_with_key_and_file() {
    for (key, value) in [
        ("peft_type", json!("LOHA")),
        ("peft_type", json!("PROMPT_TUNING")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head", "embed_tokens"])),
        ("trainable_token_indices", json!({"embed_tokens": [1, 2]})),
        ("layer_replication", json!([[0, 2], [1, 3]])),
        ("fan_in_fan_out", json!(true)),
        ("use_qalora", json!(true)),
    ] {
        let (_keep, dir) = copy("plain");
        set(&dir, key, value.clone());
        let error = read(&dir).unwrap_err().to_string();
        for part in [format!("`{key}` is {value}"), "adapter_config.json".to_owned()] {
            assert!(error.contains(&part), "{error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

//! LoRAs on routers and on the gates of shared experts, against PEFT.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use litemoe_adapter::{AdapterError, LoraOptions, init_lora, peft, save};
use litemoe_core::{Adapters, Input, LanguageModel, LinearRole, LinearSite, MoeModel, Pass};
use litemoe_model::{Checkpoint, Model};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::experts::{read, targets, tensors, write_tensors};
use crate::fixture::{distance, farthest, floats, golden, same_bits};
use crate::goldens::{input, reference};
use crate::peft::{copy, set};

const FAMILIES: [&str; 11] = [
    "deepseek_v2",
    "deepseek_v3",
    "gpt_oss",
    "granitemoe",
    "llama4_text",
    "mixtral",
    "olmoe",
    "phimoe",
    "qwen2_moe",
    "qwen3_moe",
    "switch_transformers",
];

/// Families with a golden that this crate wrote.
const OURS: [&str; 4] = ["gpt_oss", "mixtral", "qwen2_moe", "switch_transformers"];

pub(crate) fn tiny(family: &str) -> Model {
    let dir = litemoe_fixtures::tiny_dir().with_file_name(family);
    Model::load(&Checkpoint::open(dir).unwrap(), &Device::flex()).unwrap()
}

/// Logits of the last two tokens, as in the golden file.
fn last_logits(model: &Model, adapters: &Adapters) -> Vec<f32> {
    let input = match model.has_encoder() {
        true => Input { encoder_rows: Some(input().rows), ..input() },
        false => input(),
    };
    let logits = floats(model.logits(&input, &mut Pass::adapted(adapters)));
    logits[logits.len() - 2 * model.vocab()..].to_vec()
}

/// Asserts that PEFT's adapter `name` for a family has PEFT's logits, and returns it.
#[track_caller]
pub(crate) fn expect_peft(name: &str, family: &str) -> Adapters {
    let model = tiny(family);
    let name = format!("{name}_{family}");
    let adapters = read(&model, &golden(&name)).unwrap();
    let of = |name: &str| reference("logits_routers.safetensors", name);
    let (expected, base) = (of(&name), of(&format!("base_{family}")));
    assert!(farthest(&expected, &base) > 100.0 * 2e-4, "{name}");
    let error = distance(&last_logits(&model, &adapters), &expected);
    assert!(error < 2e-5, "{name}: {error}");
    adapters
}

fn routers(model: &Model) -> impl Iterator<Item = &LinearSite> {
    model.linear_sites().iter().filter(|site| matches!(site.role, LinearRole::Router { .. }))
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(peft::CONFIG_FILE)).unwrap()).unwrap()
}

#[test]
fn adapters_of_routers_give_pefts_logits() {
    for family in FAMILIES {
        let (model, adapters) = (tiny(family), expect_peft("router", family));
        assert_eq!(routers(&model).count(), model.moe_layers().len(), "{family}");
        for site in routers(&model) {
            let lora = adapters.at(site.site.as_str()).unwrap().lora();
            assert_eq!((lora.rank(), lora.scale), (2, 4.0), "{}", site.site);
        }
    }
}

#[test]
fn all_linear_is_what_peft_says() {
    let adapters = expect_peft("all", "qwen2_moe");
    let gates = adapters.loras().filter(|(site, _)| site.leaf() == "shared_expert_gate");
    assert_eq!(gates.count(), 3);
    let adapters = expect_peft("all", "qwen3_moe");
    let of = |leaf: &str| adapters.loras().filter(|(site, _)| site.leaf() == leaf).count();
    assert_eq!((of("gate"), of("o_proj"), of("up_proj")), (2, 2, 2 * 8));
}

/// This test writes `ours_router_FAMILY/` if run with `WRITE_GOLDENS` set; `make.py` checks that PEFT computes the same.
#[test]
fn routers_are_written_as_peft_reads_them() {
    for family in FAMILIES {
        let (model, dir) = (tiny(family), TempDir::new().unwrap());
        let adapters = read(&model, &golden(&format!("router_{family}"))).unwrap();
        let name = format!("ours_router_{family}");
        let target = match std::env::var_os("WRITE_GOLDENS").filter(|_| OURS.contains(&family)) {
            Some(_) => golden(&name),
            None => dir.path().join(&name),
        };
        save(&target, &adapters, model.linear_sites(), &Default::default(), None).unwrap();
        assert!(same_bits(&read(&model, &target).unwrap(), &adapters), "{family}");
        for file in [peft::CONFIG_FILE, peft::MODEL_FILE] {
            if OURS.contains(&family) {
                let written = fs::read(target.join(file)).unwrap();
                assert!(written == fs::read(golden(&name).join(file)).unwrap(), "{name}/{file}");
            }
        }
    }
}

#[test]
fn routers_are_named_by_their_parameters_and_ranks_too() {
    let (model, dir) = (tiny("mixtral"), TempDir::new().unwrap());
    let options = LoraOptions { rank: 4, ..targets(["gate", "q_proj"]) };
    let mut adapters = init_lora(model.linear_sites(), &options, 0, &Device::flex()).unwrap();
    let small = LoraOptions { rank: 2, ..targets(["gate"]) };
    let small = init_lora(model.linear_sites(), &small, 0, &Device::flex()).unwrap();
    small.loras().for_each(|(site, lora)| {
        adapters.insert(site.clone(), lora.clone());
    });
    let target = dir.path().join("adapter");
    save(&target, &adapters, model.linear_sites(), &Default::default(), None).unwrap();
    let config = config(&target);
    assert_eq!(config["target_modules"], json!(["q_proj"]));
    let names = [0, 1, 2].map(|block| format!("model.layers.{block}.mlp.gate.weight"));
    assert_eq!(config["target_parameters"], json!(names));
    let ranks = config["rank_pattern"].as_object().unwrap();
    assert!(ranks.len() == 3 && ranks.values().all(|rank| *rank != config["r"]), "{ranks:?}");
    assert!(
        tensors(&target).contains_key("base_model.model.model.layers.0.mlp.gate.lora_A.weight")
    );
    assert!(same_bits(&read(&model, &target).unwrap(), &adapters));
}

/// In transformers 4 routers are linear layers, under the names of released checkpoints.
#[test]
fn adapters_of_transformers_4_name_routers_as_modules() {
    for (family, held, released, leaf) in [
        ("mixtral", "mlp.gate", "block_sparse_moe.gate", "gate"),
        ("phimoe", "mlp.router", "block_sparse_moe.gate", "gate"),
        ("granitemoe", "block_sparse_moe.router", "block_sparse_moe.router.layer", "layer"),
        ("qwen3_moe", "mlp.gate", "mlp.gate", "gate"),
    ] {
        let (model, (_keep, dir)) = (tiny(family), copy(&format!("router_{family}")));
        let expected = read(&model, &dir).unwrap();
        let renamed = tensors(&dir).into_iter().map(|(name, tensor)| {
            (name.replace(&format!("{held}.lora"), &format!("{released}.lora")), tensor)
        });
        write_tensors(&dir, &renamed.collect::<BTreeMap<_, _>>());
        set(&dir, "target_parameters", Value::Null);
        for targets in [
            json!(["o_proj", leaf]),
            json!(["o_proj", released]),
            json!("all-linear"),
            json!(format!(r".*\.(o_proj|{released})")),
        ] {
            set(&dir, "target_modules", targets);
            assert!(same_bits(&read(&model, &dir).unwrap(), &expected), "{family}");
        }
    }
}

#[test]
fn routers_are_frozen_unless_they_are_targets() {
    for family in FAMILIES {
        let model = tiny(family);
        let made = |options: &LoraOptions| {
            init_lora(model.linear_sites(), options, 0, &Device::flex()).unwrap()
        };
        let default = made(&LoraOptions::default());
        assert!(routers(&model).all(|site| default.at(site.site.as_str()).is_none()), "{family}");
        let leaf = routers(&model).next().unwrap().site.leaf();
        assert_eq!(made(&targets([leaf])).len(), model.moe_layers().len(), "{family}");
    }
}

#[test]
fn a_linear_layer_is_a_parameter_too_but_not_both() {
    let (model, (_keep, dir)) = (tiny("switch_transformers"), copy("router_switch_transformers"));
    let expected = read(&model, &dir).unwrap();
    set(&dir, "target_parameters", json!(["router.classifier.weight"]));
    let error = read(&model, &dir).unwrap_err();
    assert!(
        matches!(&error, AdapterError::Unsupported { key, .. } if key == "target_parameters"),
        "{error}"
    );
    set(&dir, "target_modules", json!(["o"]));
    assert!(same_bits(&read(&model, &dir).unwrap(), &expected));
    // As in PEFT, names that no module has are ignored if parameters are targets.
    let mut routers = tensors(&dir);
    routers.retain(|name, _| name.contains("classifier"));
    write_tensors(&dir, &routers);
    set(&dir, "target_modules", json!(["q_proj"]));
    assert_eq!(read(&model, &dir).unwrap().len(), model.moe_layers().len());
    // A module is no parameter.
    set(&dir, "target_parameters", json!(["router.classifier"]));
    let error = read(&model, &dir).unwrap_err();
    assert!(error.to_string().contains("`target_parameters` is router.classifier"), "{error}");
}

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Keys that do not affect what a loaded adapter computes.
pub(super) const INERT: [&str; 14] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "velora_config", // replaces the backward pass only
];

/// SHA-256, in hex, of an adapter's two PEFT files; `litemoe.json` holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeftSha256 {
    /// Of the configuration's keys that affect the computation, with their values, in order of the keys: without those
    /// whose value is off, with each set of names in order.
    pub config: String,
    /// Of the tensors in order of their names: name, dtype, shape and bytes of each.
    pub tensors: String,
}

/// Keys whose lists are sets.
const SETS: [&str; 4] =
    ["exclude_modules", "layers_to_transform", "target_modules", "target_parameters"];

/// SHA-256 of the keys of a configuration that affect the computation. The PEFT version does where there are
/// `target_parameters`, whose layout it may decide.
pub(super) fn of_config(config: &Map<String, Value>) -> String {
    let has_parameters = config.get("target_parameters").is_some_and(|list| !is_off(list));
    let affects = |(key, value): &(&String, &Value)| match key.as_str() {
        "peft_version" => has_parameters,
        key => !INERT.contains(&key) && !is_off(value),
    };
    let ordered = |(key, value): (&String, &Value)| match value {
        Value::Array(list) if SETS.contains(&key.as_str()) => {
            let mut list = list.clone();
            list.sort_by_cached_key(Value::to_string);
            (key.clone(), Value::Array(list))
        }
        value => (key.clone(), value.clone()),
    };
    let config: BTreeMap<String, Value> = config.iter().filter(affects).map(ordered).collect();
    let json = serde_json::to_vec(&config).expect("JSON values under names");
    litemoe_core::sha256_hex(&json)
}

/// Whether a value leaves a key's feature off.
pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(table) => table.is_empty(),
        _ => false,
    }
}

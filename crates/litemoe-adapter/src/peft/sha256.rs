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
    /// Of the configuration's keys that affect the computation, with their values, in order of the keys.
    pub config: String,
    /// Of the tensors in order of their names: name, dtype, shape and bytes of each.
    pub tensors: String,
}

/// SHA-256 of the keys of a configuration that affect the computation.
pub(super) fn of_config(config: &Map<String, Value>) -> String {
    let affects = |(key, _): &(&String, &Value)| !INERT.contains(&key.as_str());
    let config: BTreeMap<_, _> = config.iter().filter(affects).collect();
    let json = serde_json::to_vec(&config).expect("JSON values under names");
    litemoe_core::sha256_hex(&json)
}

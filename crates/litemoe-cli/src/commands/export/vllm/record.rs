use std::ffi::OsString;
use std::fs;
use std::path::Path;

use litemoe_adapter::RECORD_FILE;
use litemoe_adapter::peft::{CONFIG_FILE, MODEL_FILE};
use litemoe_core::Fingerprint;
use litemoe_files::holds_only;
use serde::{Deserialize, Serialize};

use super::model_files::MODEL;
use crate::artefact;

/// File of the record in the output.
pub(super) const EXPORT_FILE: &str = "export.json";

/// File that starts vLLM.
pub(super) const VLLM_SCRIPT: &str = "serve-vllm.sh";

/// File that starts SGLang.
pub(super) const SGLANG_SCRIPT: &str = "serve-sglang.sh";

/// README of the output.
pub(super) const README: &str = "README.md";

/// Directory of the adapters in the output.
pub(super) const ADAPTERS: &str = "adapters";

/// `export.json`: what an output holds. It makes the directory the program's own, so that it may be replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Name and version of the program that wrote it.
    pub(super) program: String,
    /// Model name that the model without an adapter is served under.
    pub(super) name: String,
    pub(super) family: String,
    /// Fingerprint of the model.
    pub(super) model: Fingerprint,
    /// Files of the model.
    pub(super) files: Vec<String>,
    pub(super) adapters: Vec<AdapterSummary>,
    /// vLLM's `--max-lora-rank`.
    pub(super) max_lora_rank: usize,
    pub(super) servers: Servers,
}

/// An adapter of the output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdapterSummary {
    pub(super) name: String,
    /// Rank of all its LoRAs.
    pub(super) rank: usize,
    /// LoRAs that are not zero.
    pub(super) updates: usize,
    pub(super) bytes: u64,
}

/// How each server is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Servers {
    pub(super) vllm: ServerRecord,
    pub(super) sglang: ServerRecord,
}

/// The file that starts a server, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerRecord {
    Script(String),
    Refused(String),
}

/// Whether a directory holds an export, and nothing else.
pub(super) fn is_own(dir: &Path) -> bool {
    let Ok(record) = artefact::read_plain::<Record>(&dir.join(EXPORT_FILE)) else { return false };
    let names = [EXPORT_FILE, README, VLLM_SCRIPT, SGLANG_SCRIPT, MODEL, ADAPTERS];
    let files: Vec<&str> = record.files.iter().map(String::as_str).collect();
    let adapters: Vec<&str> = record.adapters.iter().map(|it| it.name.as_str()).collect();
    let is_adapter = |name: &&str| {
        let adapter = dir.join(ADAPTERS).join(name);
        !adapter.exists() || holds_only(&adapter, &[CONFIG_FILE, MODEL_FILE, RECORD_FILE])
    };
    has_only(dir, &names)
        && holds_only(&dir.join(MODEL), &files)
        && has_only(&dir.join(ADAPTERS), &adapters)
        && adapters.iter().all(is_adapter)
}

/// Whether every entry of a directory has one of these names.
fn has_only(dir: &Path, names: &[&str]) -> bool {
    let known = |name: OsString| names.iter().any(|known| name == *known);
    let entries = fs::read_dir(dir);
    entries.is_ok_and(|mut all| all.all(|entry| entry.is_ok_and(|it| known(it.file_name()))))
}

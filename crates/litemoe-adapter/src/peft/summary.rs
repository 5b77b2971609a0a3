use std::collections::BTreeSet;
use std::path::Path;

use super::config::LoraConfig;
use super::read::model_file;
use super::{CONFIG_FILE, PeftConfig, PeftSha256, saved_name, tensor_names};
use crate::AdapterError;
use crate::delta_norm::product_norm;
use crate::init_lora::{divisor, ends_with};
use crate::tensors::{Matrices, unknown};

/// Contents of a PEFT adapter directory, read without a model: nothing is checked against one.
#[derive(Debug, Clone)]
pub struct PeftSummary {
    /// Fields of the configuration other than ranks, α and targets.
    pub config: PeftConfig,
    /// PEFT version that wrote it.
    pub peft_version: Option<String>,
    /// The LoRAs in order of their modules.
    pub modules: Vec<LoraSummary>,
    /// Hashes of the files.
    pub sha256: PeftSha256,
}

/// LoRA of one module, or of all experts in one stacked parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSummary {
    /// Path of the module, or of the parameter that `target_parameters` names.
    pub path: String,
    /// Rank.
    pub rank: usize,
    /// Scale: α/r, or α/√r (rank-stabilised).
    pub scale: f32,
    /// α.
    pub alpha: f64,
    /// Number of experts in a stacked parameter; `None` for a single weight.
    pub n_experts: Option<usize>,
    /// Number of values in A and B.
    pub parameters: u64,
    /// Frobenius norm of the update, over all experts of a stack.
    pub norm: f64,
}

/// Reads what a PEFT adapter directory holds.
///
/// # Errors
/// Those of [`read`](super::read) that need no model: a missing or broken file, a pickle, a configuration with anything
/// but LoRA, a LoRA without one of its matrices, a tensor that is neither, shapes that contradict the ranks, and values
/// that are not finite.
pub fn summary(dir: &Path) -> Result<PeftSummary, AdapterError> {
    let config_path = dir.join(CONFIG_FILE);
    if !config_path.is_file() {
        return Err(AdapterError::NotAnAdapter { path: config_path });
    }
    let config = LoraConfig::read(&config_path)?;
    let model_path = model_file(dir, &config.written)?;
    let mut matrices = Matrices::read_as(&model_path, saved_name)?;
    let sha256 =
        PeftSha256 { config: config.sha256.clone(), tensors: matrices.sha256().to_owned() };
    let modules: BTreeSet<String> =
        matrices.names().filter_map(module).map(str::to_owned).collect();
    let strangers: Vec<&str> = matrices.names().filter(|name| module(name).is_none()).collect();
    if !strangers.is_empty() {
        return Err(unknown(&model_path, strangers.into_iter()));
    }
    let loras = modules.iter().map(|module| {
        let path = parameter(&config, &modules, module).unwrap_or_else(|| module.clone());
        lora(&config, path, module, &mut matrices)
    });
    let loras = loras.collect::<Result<_, _>>()?;
    matrices.finish()?;
    let LoraConfig { written: config, peft_version, .. } = config;
    Ok(PeftSummary { config, peft_version, modules: loras, sha256 })
}

/// Module of a LoRA tensor's name.
fn module(name: &str) -> Option<&str> {
    let module = name.strip_prefix(super::PREFIX)?;
    ["A", "B"].iter().find_map(|which| module.strip_suffix(&format!(".lora_{which}.weight")))
}

/// Path of the parameter that a module's tensors are of: PEFT wraps a module once per adapted parameter, and of a
/// stack's two the innermost is `gate_up_proj`.
fn parameter(config: &LoraConfig, modules: &BTreeSet<String>, module: &str) -> Option<String> {
    let inner = module.strip_suffix(".base_layer");
    let owner = inner.unwrap_or(module);
    let is_double = modules.contains(&format!("{module}.base_layer"));
    let leaves: &[&str] = match (inner, is_double) {
        (Some(_), _) => &["gate_up_proj"],
        (None, true) => &["down_proj"],
        (None, false) => &["weight", "gate_up_proj", "down_proj"],
    };
    let mut paths = leaves.iter().map(|leaf| format!("{owner}.{leaf}"));
    paths.find(|path| config.parameters.iter().any(|target| ends_with(path, target)))
}

fn lora(
    config: &LoraConfig,
    path: String,
    module: &str,
    matrices: &mut Matrices,
) -> Result<LoraSummary, AdapterError> {
    let (rank, scale) = (config.rank_at(&path)?, config.scale_at(&path)?);
    let [name_a, name_b] = tensor_names(module);
    let is_stack = !path.ends_with(".weight") && path != module;
    let shape = |name: &str| match matrices.shape(name) {
        Some(&[rows, columns]) => [rows, columns],
        _ => [rank, rank],
    };
    let ([rows, d_in], [d_out, _]) = (shape(&name_a), shape(&name_b));
    let n = if is_stack { rows / rank } else { 1 };
    let a = matrices.take(&name_a, [n * rank, d_in])?;
    let b = matrices.take(&name_b, [d_out, rank * n])?;
    let norms = (0..n).map(|expert| {
        let a_of = |slot: usize| a[(expert * rank + slot) * d_in..][..d_in].to_vec();
        let b_of =
            |slot: usize| b.iter().skip(slot * n + expert).step_by(n * rank).copied().collect();
        let (a, b): (Vec<_>, Vec<_>) = (0..rank).map(|slot| (a_of(slot), b_of(slot))).unzip();
        product_norm(&a, &b)
    });
    let norm = f64::from(scale).abs() * norms.map(|norm| norm * norm).sum::<f64>().sqrt();
    Ok(LoraSummary {
        alpha: f64::from(scale) * divisor(rank, config.written.rslora),
        n_experts: is_stack.then_some(n),
        parameters: (a.len() + b.len()) as u64,
        path,
        rank,
        scale,
        norm,
    })
}

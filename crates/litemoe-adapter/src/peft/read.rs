use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{Adapters, LinearSite, Lora};

use super::config::LoraConfig;
use super::pattern::Targets;
use super::{CONFIG_FILE, MODEL_FILE, PICKLE_FILE, PeftConfig, tensor_names, transposed};
use crate::AdapterError;
use crate::fresh::{ends_with, leaves};
use crate::tensors::{Matrices, unknown};

/// An adapter as PEFT's files hold it.
#[derive(Debug, Clone)]
pub struct PeftAdapter {
    /// The updates.
    pub adapters: Adapters,
    /// What the configuration says beside them.
    pub config: PeftConfig,
}

/// Reads an adapter directory for a model with these linear weights.
///
/// # Errors
/// A missing or broken file, a pickle, a configuration that asks for anything but LoRA on linear weights, a claimed
/// target that the model or the file lacks, a tensor of another shape or with a value that is no finite number, and any
/// tensor that nothing claims.
pub fn read(
    dir: &Path,
    sites: &[LinearSite],
    device: &Device,
) -> Result<PeftAdapter, AdapterError> {
    let (config_path, model_path) = files(dir)?;
    let config = LoraConfig::read(&config_path)?;
    check_targets(&config_path, &config, sites)?;
    let mut matrices = Matrices::read(&model_path)?;
    let claimed = claimed(&config, sites, &matrices);
    check_names(&model_path, &claimed, &matrices)?;
    let mut adapters = Adapters::default();
    for site in claimed {
        adapters.insert(site.site.clone(), lora(&config, site, &mut matrices, device)?);
    }
    matrices.finish()?;
    Ok(PeftAdapter { adapters, config: config.written })
}

fn files(dir: &Path) -> Result<(PathBuf, PathBuf), AdapterError> {
    let (config, model, pickle) =
        (dir.join(CONFIG_FILE), dir.join(MODEL_FILE), dir.join(PICKLE_FILE));
    if !config.is_file() {
        return Err(AdapterError::NotAnAdapter { path: config });
    }
    if !model.is_file() && pickle.is_file() {
        return Err(AdapterError::Pickle { path: pickle });
    }
    if !model.is_file() {
        return Err(AdapterError::NotAnAdapter { path: model });
    }
    Ok((config, model))
}

/// Every claimed target is a weight of the model.
fn check_targets(
    path: &Path,
    config: &LoraConfig,
    sites: &[LinearSite],
) -> Result<(), AdapterError> {
    let found = |target: &String| sites.iter().any(|site| ends_with(site.site.as_str(), target));
    let lost = match &config.targets {
        Targets::Ends(ends) => ends.iter().find(|end| !found(end)).cloned(),
        Targets::Pattern(_) if !sites.iter().any(|site| config.claims(site.site.as_str())) => {
            Some("the pattern".to_owned())
        }
        _ => None,
    };
    let Some(target) = lost else { return Ok(()) };
    Err(AdapterError::Unsupported {
        path: path.to_owned(),
        key: "target_modules".to_owned(),
        found: target,
        expected: format!("the model has no such linear weight; it has {}", leaves(sites)),
    })
}

/// The sites that must have an update: all claimed ones, or with `all-linear` those that the file has.
fn claimed<'a>(
    config: &LoraConfig,
    sites: &'a [LinearSite],
    matrices: &Matrices,
) -> Vec<&'a LinearSite> {
    let open = matches!(config.targets, Targets::AllLinear);
    let there = |site: &str| tensor_names(site).iter().any(|name| matrices.contains(name));
    let wanted = |site: &&LinearSite| {
        config.claims(site.site.as_str()) && (!open || there(site.site.as_str()))
    };
    sites.iter().filter(wanted).collect()
}

/// Every tensor belongs to a claimed site: said before a missing one, which is often the same tensor misnamed.
fn check_names(
    path: &Path,
    claimed: &[&LinearSite],
    matrices: &Matrices,
) -> Result<(), AdapterError> {
    let names: std::collections::BTreeSet<String> =
        claimed.iter().flat_map(|site| tensor_names(site.site.as_str())).collect();
    let mut strangers = matrices.names().filter(|name| !names.contains(*name)).peekable();
    match strangers.peek() {
        Some(_) => Err(unknown(path, strangers)),
        None => Ok(()),
    }
}

fn lora(
    config: &LoraConfig,
    site: &LinearSite,
    matrices: &mut Matrices,
    device: &Device,
) -> Result<Lora, AdapterError> {
    let path = site.site.as_str();
    let (rank, [name_a, name_b]) = (config.rank_at(path), tensor_names(path));
    let mut matrix = |name: &str, shape: [usize; 2]| -> Result<Tensor<2>, AdapterError> {
        let values = transposed(&matrices.take(name, shape)?, shape);
        Ok(Tensor::from_data(TensorData::new(values, [shape[1], shape[0]]), device))
    };
    let a = matrix(&name_a, [rank, site.d_in])?;
    let b = matrix(&name_b, [site.d_out, rank])?;
    Ok(Lora { a, b, scale: config.scale_at(path) })
}

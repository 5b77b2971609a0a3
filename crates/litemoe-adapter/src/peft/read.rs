use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{Adapters, LinearSite, Lora, Site};

use super::bank::Bank;
use super::config::LoraConfig;
use super::found_order::order_of;
use super::padding::trimmed;
use super::pattern::{Targets, suffixes};
use super::stack::Stack;
use super::{CONFIG_FILE, PICKLE_FILE, PeftConfig, tensor_names, transposed};
use crate::AdapterError;
use crate::evaluate::floats;
use crate::init_lora::leaves;
use crate::tensors::{Matrices, unknown};

/// An adapter read from PEFT's files.
#[derive(Debug, Clone)]
pub struct PeftAdapter {
    /// The LoRAs.
    pub adapters: Adapters,
    /// Other fields of the configuration.
    pub config: PeftConfig,
}

/// Reads a PEFT adapter directory for a model with these linear weights.
///
/// # Errors
/// A missing or broken file, a pickle, a configuration with anything but LoRA on linear weights, a target that the
/// model or the file lacks, a tensor with a wrong shape or a value that is not finite, and any tensor that belongs to
/// no target.
pub fn read(
    dir: &Path,
    sites: &[LinearSite],
    device: &Device,
) -> Result<PeftAdapter, AdapterError> {
    let config_path = dir.join(CONFIG_FILE);
    if !config_path.is_file() {
        return Err(AdapterError::NotAnAdapter { path: config_path });
    }
    let config = LoraConfig::read(&config_path)?;
    let model_path = model_file(dir, &config.written)?;
    check_targets(&config_path, &config, sites)?;
    let banks = Bank::all(sites);
    let stacks = Stack::claimed(&config_path, &config, &banks)?;
    let mut matrices = Matrices::read(&model_path)?;
    let claimed = claimed(&config, sites, &matrices);
    check_names(&model_path, &claimed, &stacks, &matrices)?;
    check_found(&model_path, &config, sites, &claimed)?;
    let mut updates = Vec::new();
    for site in claimed {
        updates.push((site.site.clone(), lora(&config, site, &mut matrices, device)?));
    }
    if !stacks.is_empty() {
        let order = order_of(&config_path, &config, &stacks, &matrices)?;
        for stack in &stacks {
            updates.extend(stack.read(&config, order, &mut matrices, device)?);
        }
    }
    matrices.finish()?;
    let adapters = without_blanks(updates, sites);
    Ok(PeftAdapter { adapters, config: config.written })
}

/// Removes all-zero LoRAs of experts and the zero-padding of lower ranks.
fn without_blanks(updates: Vec<(Site, Lora)>, sites: &[LinearSite]) -> Adapters {
    let experts = sites.iter().filter(|site| site.role.is_expert());
    let experts: BTreeSet<&Site> = experts.map(|site| &site.site).collect();
    let update = |(site, lora): (Site, Lora)| match experts.contains(&site) {
        true if is_blank(&lora) => None,
        true => Some((site, trimmed(lora))),
        false => Some((site, lora)),
    };
    updates.into_iter().filter_map(update).collect()
}

fn is_blank(lora: &Lora) -> bool {
    let is_zero = |matrix: &Tensor<2>| floats(matrix.clone()).iter().all(|&value| value == 0.0);
    is_zero(&lora.a) && is_zero(&lora.b)
}

/// Path of the tensor file.
fn model_file(dir: &Path, config: &PeftConfig) -> Result<PathBuf, AdapterError> {
    let (model, pickle) = (dir.join(config.model_file()), dir.join(PICKLE_FILE));
    match (model.is_file(), pickle.is_file()) {
        (true, _) => Ok(model),
        (false, true) => Err(AdapterError::Pickle { path: pickle }),
        (false, false) => Err(AdapterError::NotAnAdapter { path: model }),
    }
}

/// Checks that every target is a weight of the model.
fn check_targets(
    path: &Path,
    config: &LoraConfig,
    sites: &[LinearSite],
) -> Result<(), AdapterError> {
    let claims = |site: &LinearSite| config.claims(site.site.as_str());
    let lost = match &config.targets {
        Targets::Ends(ends) => {
            let paths = sites.iter().flat_map(|site| suffixes(site.site.as_str()));
            let found: BTreeSet<&str> = paths.collect();
            ends.iter().find(|end| !found.contains(&***end)).cloned()
        }
        Targets::Pattern(_) if !sites.iter().any(claims) => Some("the pattern".to_owned()),
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

/// Sites that must have a LoRA: all targets, or with `all-linear` those with tensors in the file. An expert without any
/// tensor in the file is excluded: not every expert needs a LoRA, and configurations of other programs name an expert
/// projection when they mean another module's projection of the same name.
fn claimed<'a>(
    config: &LoraConfig,
    sites: &'a [LinearSite],
    matrices: &Matrices,
) -> Vec<&'a LinearSite> {
    let open = matches!(config.targets, Targets::AllLinear);
    let there = |site: &LinearSite| {
        tensor_names(site.site.as_str()).iter().any(|name| matrices.contains(name))
    };
    let expert = |site: &LinearSite| site.role.expert().map(|(expert, _)| expert);
    let experts: BTreeSet<_> = sites.iter().filter(|site| there(site)).filter_map(expert).collect();
    let wanted = |site: &&LinearSite| {
        let is_absent = expert(site).is_some_and(|expert| !experts.contains(&expert));
        config.claims(site.site.as_str()) && !is_absent && (!open || there(site))
    };
    sites.iter().filter(wanted).collect()
}

/// Checks that every target name, or the pattern, matches something in the file.
fn check_found(
    path: &Path,
    config: &LoraConfig,
    sites: &[LinearSite],
    claimed: &[&LinearSite],
) -> Result<(), AdapterError> {
    let found: BTreeSet<&str> =
        claimed.iter().flat_map(|site| suffixes(site.site.as_str())).collect();
    let is_lost = |site: &str| match &config.targets {
        Targets::Ends(ends) => suffixes(site).any(|end| ends.contains(end) && !found.contains(end)),
        Targets::Pattern(_) => claimed.is_empty(),
        Targets::AllLinear => false,
    };
    let mut meant = sites.iter().map(|site| site.site.as_str()).filter(|site| config.claims(site));
    let Some(site) = meant.find(|site| is_lost(site)) else { return Ok(()) };
    let [tensor, _] = tensor_names(site);
    Err(AdapterError::MissingTensor { path: path.to_owned(), tensor })
}

/// Checks that every tensor belongs to a targeted site or stack. Reported before missing tensors, which are often the
/// same tensors misnamed.
fn check_names(
    path: &Path,
    claimed: &[&LinearSite],
    stacks: &[Stack<'_>],
    matrices: &Matrices,
) -> Result<(), AdapterError> {
    let stacks = stacks.iter().flat_map(Stack::tensor_names);
    let names = claimed.iter().flat_map(|site| tensor_names(site.site.as_str()));
    let names: BTreeSet<String> = names.chain(stacks).collect();
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

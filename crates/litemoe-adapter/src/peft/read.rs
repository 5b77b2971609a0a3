use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{Adapters, LinearSite, Lora, Site};

use super::bank::Bank;
use super::config::{LoraConfig, Target, module_paths};
use super::found_order::order_of;
use super::padding::trimmed;
use super::stack::Stack;
use super::targets::{Targets, suffixes};
use super::{
    CONFIG_FILE, PICKLE_FILE, PeftConfig, PeftSha256, saved_name, tensor_names, transposed,
};
use crate::AdapterError;
use crate::evaluate::floats;
use crate::init_lora::{ends_with, leaves};
use crate::tensors::{Matrices, unknown};

/// An adapter read from PEFT's files.
#[derive(Debug, Clone)]
pub struct PeftAdapter {
    /// The LoRAs.
    pub adapters: Adapters,
    /// Other fields of the configuration.
    pub config: PeftConfig,
    /// Hashes of the files.
    pub sha256: PeftSha256,
}

/// Reads a PEFT adapter directory for a model with these linear weights.
///
/// # Errors
/// A missing or broken file, a pickle, a configuration with anything but LoRA on linear weights, targets that the model
/// lacks, a target that the file lacks, a tensor with a wrong shape or a value that is not finite, and any tensor that
/// belongs to no target.
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
    let targets = config.targeted(&config_path, sites)?;
    check_targets(&config_path, &config, sites, &targets)?;
    let banks = Bank::all(sites);
    let stacks = Stack::claimed(&config, &banks);
    check_parameters(&config_path, &config, &stacks, &targets)?;
    let mut matrices = Matrices::read_as(&model_path, saved_name)?;
    let sha256 =
        PeftSha256 { config: config.sha256.clone(), tensors: matrices.sha256().to_owned() };
    let claimed = claimed(&config, &targets, &matrices);
    check_names(&model_path, &claimed, &stacks, &matrices)?;
    check_found(&model_path, &config, &targets, &claimed)?;
    let mut updates = Vec::new();
    for target in claimed {
        let site = target.weight.site.clone();
        updates.push((site, lora(&config, target, &mut matrices, device)?));
    }
    if !stacks.is_empty() {
        let order = order_of(&config_path, &config, &stacks, &matrices)?;
        for stack in &stacks {
            updates.extend(stack.read(&config, order, &mut matrices, device)?);
        }
    }
    matrices.finish()?;
    let adapters = without_blanks(updates, sites);
    Ok(PeftAdapter { adapters, config: config.written, sha256 })
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
pub(super) fn model_file(dir: &Path, config: &PeftConfig) -> Result<PathBuf, AdapterError> {
    let (model, pickle) = (dir.join(config.model_file()), dir.join(PICKLE_FILE));
    match (model.is_file(), pickle.is_file()) {
        (true, _) => Ok(model),
        (false, true) => Err(AdapterError::Pickle { path: pickle }),
        (false, false) => Err(AdapterError::NotAnAdapter { path: model }),
    }
}

/// Checks that some target is a weight of the model, in one of the layers that the targets are limited to. As in PEFT,
/// other names may be of modules that only other models have; their tensors would belong to nothing.
fn check_targets(
    path: &Path,
    config: &LoraConfig,
    sites: &[LinearSite],
    targets: &[Target<'_>],
) -> Result<(), AdapterError> {
    let unsupported = |key: &str, found: String, expected: String| {
        let (path, key) = (path.to_owned(), key.to_owned());
        Err(AdapterError::Unsupported { path, key, found, expected })
    };
    let is_none_meant = targets.is_empty() && config.parameters.is_empty();
    let lost = match &config.targets {
        Targets::Ends(ends) if is_none_meant => {
            let found: BTreeSet<&str> =
                sites.iter().flat_map(module_paths).flat_map(suffixes).collect();
            let is_lost = |end: &String| !found.contains(&**end);
            ends.first().filter(|_| ends.iter().all(is_lost)).cloned()
        }
        Targets::Pattern(_) if is_none_meant => Some("the pattern".to_owned()),
        _ => None,
    };
    if let Some(target) = lost {
        let expected = format!("the model has no such linear weight; it has {}", leaves(sites));
        return unsupported("target_modules", target, expected);
    }
    match &config.layers {
        Some(layers) if is_none_meant => {
            let numbers: Vec<_> = layers.numbers.iter().collect();
            let expected = "the targets are in none of these layers".to_owned();
            unsupported("layers_to_transform", format!("{numbers:?}"), expected)
        }
        _ => Ok(()),
    }
}

/// Checks that every target parameter is a stack of experts or a weight of the model.
fn check_parameters(
    path: &Path,
    config: &LoraConfig,
    stacks: &[Stack<'_>],
    targets: &[Target<'_>],
) -> Result<(), AdapterError> {
    let stacks = stacks.iter().map(|stack| &stack.parameter);
    let weights = targets.iter().filter(|target| target.is_parameter).map(|target| &target.path);
    let paths: Vec<&String> = stacks.chain(weights).collect();
    let is_known = |target: &&String| paths.iter().any(|path| ends_with(path, target));
    match config.parameters.iter().find(|target| !is_known(target)) {
        None => Ok(()),
        Some(target) => Err(AdapterError::Unsupported {
            path: path.to_owned(),
            key: "target_parameters".to_owned(),
            found: target.clone(),
            expected: "the model has no such stack of experts and no such linear weight".to_owned(),
        }),
    }
}

/// Names of A and B of a weight in a file: of its module in transformers 5 or, if neither is there, of its module in
/// released checkpoints.
fn names_in(matrices: &Matrices, weight: &LinearSite) -> [String; 2] {
    let held = weight.parameter.as_ref().map(|held| tensor_names(held.as_str()));
    let held = held.filter(|names| names.iter().any(|name| matrices.contains(name)));
    held.unwrap_or_else(|| tensor_names(weight.site.as_str()))
}

/// Targets that must have a LoRA: all, or with `all-linear` those with tensors in the file. An expert without any
/// tensor in the file is excluded: not every expert needs a LoRA, and configurations of other programs name an expert
/// projection when they mean another module's projection of the same name.
fn claimed<'a, 't>(
    config: &LoraConfig,
    targets: &'t [Target<'a>],
    matrices: &Matrices,
) -> Vec<&'t Target<'a>> {
    let open = matches!(config.targets, Targets::AllLinear);
    let there = |target: &Target<'_>| {
        names_in(matrices, target.weight).iter().any(|name| matrices.contains(name))
    };
    let expert = |target: &Target<'_>| target.weight.role.expert().map(|(expert, _)| expert);
    let found = targets.iter().filter(|target| there(target));
    let experts: BTreeSet<_> = found.filter_map(expert).collect();
    let wanted = |target: &&Target<'_>| {
        let is_absent = expert(target).is_some_and(|expert| !experts.contains(&expert));
        !is_absent && (!open || there(target))
    };
    targets.iter().filter(wanted).collect()
}

/// Checks that every target name, or the pattern, matches something in the file.
fn check_found(
    path: &Path,
    config: &LoraConfig,
    targets: &[Target<'_>],
    claimed: &[&Target<'_>],
) -> Result<(), AdapterError> {
    let found = claimed.iter().flat_map(|target| module_paths(target.weight));
    let found: BTreeSet<&str> = found.flat_map(suffixes).collect();
    let is_lost = |target: &&Target<'_>| match &config.targets {
        Targets::Ends(ends) => {
            suffixes(&target.path).any(|end| ends.contains(end) && !found.contains(end))
        }
        Targets::Pattern(_) => claimed.is_empty(),
        Targets::AllLinear => false,
    };
    let Some(target) = targets.iter().find(is_lost) else { return Ok(()) };
    let [tensor, _] = tensor_names(&target.path);
    Err(AdapterError::MissingTensor { path: path.to_owned(), tensor })
}

/// Checks that every tensor belongs to a targeted weight or stack. Reported before missing tensors, which are often the
/// same tensors misnamed.
fn check_names(
    path: &Path,
    claimed: &[&Target<'_>],
    stacks: &[Stack<'_>],
    matrices: &Matrices,
) -> Result<(), AdapterError> {
    let stacks = stacks.iter().flat_map(Stack::tensor_names);
    let names = claimed.iter().flat_map(|target| names_in(matrices, target.weight));
    let names: BTreeSet<String> = names.chain(stacks).collect();
    let strangers = matrices.names().filter(|name| !names.contains(*name));
    let mut strangers = strangers.map(|name| matrices.name_in_file(name)).peekable();
    match strangers.peek() {
        Some(_) => Err(unknown(path, strangers)),
        None => Ok(()),
    }
}

fn lora(
    config: &LoraConfig,
    target: &Target<'_>,
    matrices: &mut Matrices,
    device: &Device,
) -> Result<Lora, AdapterError> {
    let Target { weight, path, .. } = target;
    let (rank, [name_a, name_b]) = (config.rank_at(path)?, names_in(matrices, weight));
    let mut matrix = |name: &str, shape: [usize; 2]| -> Result<Tensor<2>, AdapterError> {
        let values = transposed(&matrices.take(name, shape)?, shape);
        Ok(Tensor::from_data(TensorData::new(values, [shape[1], shape[0]]), device))
    };
    let a = matrix(&name_a, [rank, weight.d_in])?;
    let b = matrix(&name_b, [weight.d_out, rank])?;
    Ok(Lora { a, b, scale: config.scale_at(path)? })
}

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use litemoe_core::{Adapters, LinearSite, Lora, Site};
use litemoe_files::StagedDir;
use serde_json::{Map, Value, json};

use super::bank::Bank;
use super::padding::evened;
use super::stacked::Stacked;
use super::targets::suffixes;
use super::uniform::uniform;
use super::{
    CONFIG_FILE, LITEMOE_TYPE, LORA_TYPE, PeftConfig, PeftSha256, sha256, tensor_names, transposed,
};
use crate::evaluate::floats;
use crate::init_lora::{divisor, scale};
use crate::tensors::{MAX_ADAPTER_BYTES, MatrixFile};

/// PEFT version whose format is written.
const PEFT_VERSION: &str = "0.21.2";

/// Writes PEFT's two files into a staged directory, in f32, and returns their hashes. `sites` are the model's linear
/// weights: if every weight of one name has a LoRA, `target_modules` lists only that name, as other loaders prefer.
///
/// If ranks or scales differ between sites, the defaults are those of per-expert LoRAs, or else of the first site, and
/// the others become patterns. PEFT ignores patterns for per-expert LoRAs, so these are brought to one rank and to the
/// scale that is farthest from zero. If only some experts of a layer have a LoRA, the others are written as zeros, because
/// PEFT stacks a layer's experts and needs all of them. Experts that PEFT reads only as stacks are written as `target_parameters`, as the same update
/// in other matrices: gate and up as one LoRA of twice the rank, lower ranks zero-padded, other scales multiplied into
/// B. Weights that PEFT adapts as parameters, such as routers, are `target_parameters` too. An adapter with a router
/// bias, which PEFT refuses, is written expert by expert and without those zeros.
///
/// # Errors
/// I/O errors, and tensors that [`read`](super::read) would refuse because there are too many or too large ones.
pub fn write(
    dir: &mut StagedDir,
    adapters: &Adapters,
    sites: &[LinearSite],
    config: &PeftConfig,
) -> io::Result<PeftSha256> {
    let mut banks = Bank::all(sites);
    // Loaders of PEFT's format stack a layer's experts; for `LITEMOE_TYPE` they are not stacked.
    banks.retain(|bank| bank.stack.only && !config.routed);
    let stacks: Vec<Stacked> = banks.iter().flat_map(|bank| Stacked::of(bank, adapters)).collect();
    let adapters = match config.routed {
        true => adapters.clone(),
        false => with_blanks(&evened(&without(adapters, &banks), sites), sites),
    };
    write_files(dir, &adapters, stacks, sites, config)
}

/// As [`write()`], for servers that read of PEFT's configuration one rank and one α: the configuration has no patterns and no
/// rank-stabilised scale, and every expert has LoRAs of its own, also where PEFT itself reads only stacks.
///
/// All LoRAs are brought to the largest rank and to the scale that is farthest from zero. Weights that such servers fuse have
/// a LoRA all or none, zeros where the adapter has none: queries, keys and values of an attention layer; gate and up of a
/// dense network; the three projections of all experts of a layer.
///
/// # Errors
/// As [`write()`].
pub fn write_uniform(
    dir: &mut StagedDir,
    adapters: &Adapters,
    sites: &[LinearSite],
    config: &PeftConfig,
) -> io::Result<PeftSha256> {
    let config = PeftConfig { rslora: false, routed: false, ..config.clone() };
    write_files(dir, &uniform(adapters, sites), Vec::new(), sites, &config)
}

fn write_files(
    dir: &mut StagedDir,
    adapters: &Adapters,
    stacks: Vec<Stacked>,
    sites: &[LinearSite],
    config: &PeftConfig,
) -> io::Result<PeftSha256> {
    let mut file = dir.file(CONFIG_FILE)?;
    let configuration = configuration(adapters, &stacks, sites, config);
    serde_json::to_writer_pretty(&mut file, &configuration)?;
    file.write_all(b"\n")?;
    drop(file);
    let tensors = tensors(adapters, stacks, sites);
    if tensors.n_bytes() > MAX_ADAPTER_BYTES {
        let message = format!("an adapter's file has at most {MAX_ADAPTER_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let bytes = tensors.encode("format", "pt".to_owned()).map_err(io::Error::other)?;
    dir.file(config.model_file())?.write_all(&bytes)?;
    Ok(PeftSha256 { config: sha256::of_config(&configuration), tensors: tensors.sha256() })
}

/// Modules of the weights that PEFT adapts as parameters, by site.
type Modules<'a> = BTreeMap<&'a Site, &'a Site>;

fn modules(sites: &[LinearSite]) -> Modules<'_> {
    sites.iter().filter_map(|site| Some((&site.site, site.parameter.as_ref()?))).collect()
}

/// The LoRAs of sites outside the banks.
fn without(adapters: &Adapters, banks: &[Bank<'_>]) -> Adapters {
    let stacked = banks.iter().flat_map(|bank| bank.experts.iter().flatten());
    let stacked: BTreeSet<&Site> = stacked.map(|site| &site.site).collect();
    let others = adapters.loras().filter(|(site, _)| !stacked.contains(site));
    others.map(|(site, lora)| (site.clone(), lora.clone())).collect()
}

/// Adds zero LoRAs at experts without one, where other experts of the layer have one on the same part.
fn with_blanks(adapters: &Adapters, sites: &[LinearSite]) -> Adapters {
    let mut all = adapters.clone();
    let mut models = BTreeMap::new();
    for LinearSite { site, role, .. } in sites {
        if let (Some((expert, part)), Some(adapter)) = (role.expert(), adapters.at(site.as_str())) {
            models.entry((expert.layer, part)).or_insert(adapter.lora());
        }
    }
    for LinearSite { site, role, .. } in sites {
        let Some((expert, part)) = role.expert() else { continue };
        let Some(model) = models.get(&(expert.layer, part)) else { continue };
        if all.at(site.as_str()).is_none() {
            let (a, b) = (model.a.zeros_like(), model.b.zeros_like());
            all.insert(site.clone(), Lora { a, b, scale: model.scale });
        }
    }
    all
}

fn tensors(adapters: &Adapters, stacks: Vec<Stacked>, sites: &[LinearSite]) -> MatrixFile {
    let (mut file, modules) = (MatrixFile::new(), modules(sites));
    for (site, lora) in adapters.loras() {
        let names = tensor_names(modules.get(site).unwrap_or(&site).as_str());
        for (name, matrix) in names.into_iter().zip([&lora.a, &lora.b]) {
            let [d_in, d_out] = matrix.dims();
            let values = transposed(&floats(matrix.clone()), [d_in, d_out]);
            file.insert(name, &values, [d_out, d_in]);
        }
    }
    for (name, values, shape) in stacks.into_iter().flat_map(|stack| stack.matrices) {
        file.insert(name, &values, shape);
    }
    file
}

/// Rank and scale of a LoRA in the configuration.
struct Entry<'a> {
    path: Cow<'a, str>,
    rank: usize,
    scale: f32,
}

/// Entries of LoRAs on weights, then on stacks.
fn entries<'a>(
    adapters: &'a Adapters,
    stacks: &'a [Stacked],
    modules: &Modules<'_>,
) -> Vec<Entry<'a>> {
    let path = |site: &'a Site| match modules.get(site) {
        Some(module) => Cow::Owned(format!("{module}.weight")),
        None => Cow::Borrowed(site.as_str()),
    };
    let alone = adapters.loras().map(|(site, lora)| Entry {
        path: path(site),
        rank: lora.rank(),
        scale: lora.scale,
    });
    let stacks = stacks.iter().map(|stack| Entry {
        path: Cow::Borrowed(&stack.parameter),
        rank: stack.rank,
        scale: stack.scale,
    });
    alone.chain(stacks).collect()
}

/// Configuration with every key that PEFT 0.21 writes; features that are not used are off.
fn configuration(
    adapters: &Adapters,
    stacks: &[Stacked],
    sites: &[LinearSite],
    config: &PeftConfig,
) -> Map<String, Value> {
    let modules = modules(sites);
    let entries = entries(adapters, stacks, &modules);
    let experts = sites.iter().filter(|site| site.role.is_expert());
    let experts: BTreeSet<&str> = experts.map(|site| site.site.as_str()).collect();
    let expert = entries.iter().find(|entry| experts.contains(&*entry.path));
    let (rank, default_alpha) = expert
        .or(entries.first())
        .map_or((1, json!(1)), |first| (first.rank, first.alpha(config.rslora)));
    let mut ranks = Map::new();
    let mut alphas = Map::new();
    for entry in &entries {
        if entry.rank != rank {
            ranks.insert(entry.path.to_string(), json!(entry.rank));
        }
        let alpha = entry.alpha(config.rslora);
        if alpha != default_alpha {
            alphas.insert(entry.path.to_string(), alpha);
        }
    }
    let weights = adapters.loras().filter_map(|(site, _)| modules.get(site));
    let weights = weights.map(|module| format!("{module}.weight"));
    let stacks = stacks.iter().map(|stack| stack.parameter.clone());
    let parameters: BTreeSet<String> = stacks.chain(weights).collect();
    let configuration = json!({
        "alora_invocation_tokens": null,
        "alpha_pattern": alphas,
        "arrow_config": null,
        "auto_mapping": null,
        "base_model_name_or_path": config.base_model,
        "bias": "none",
        "corda_config": null,
        "ensure_weight_tying": false,
        "eva_config": null,
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "kasa_config": null,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": default_alpha,
        "lora_bias": false,
        "lora_dropout": 0.0,
        "lora_ga_config": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "monteclora_config": null,
        "peft_type": if config.routed { LITEMOE_TYPE } else { LORA_TYPE },
        "peft_version": PEFT_VERSION,
        "qalora_group_size": 16,
        "r": rank,
        "rank_pattern": ranks,
        "revision": null,
        "target_modules": targets(adapters, sites, &modules),
        "target_parameters": (!parameters.is_empty()).then_some(parameters),
        "task_type": config.task_type,
        "trainable_token_indices": null,
        "use_bdlora": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": config.rslora,
        "velora_config": null,
    });
    match configuration {
        Value::Object(configuration) => configuration,
        _ => unreachable!("it is written as an object"),
    }
}

impl Entry<'_> {
    /// α: the scale times PEFT's divisor, with the fewest decimals that give exactly the same scale; an integer if no
    /// decimals are needed, as PEFT declares it.
    fn alpha(&self, rslora: bool) -> Value {
        let alpha = f64::from(self.scale) * divisor(self.rank, rslora);
        let rounded = |decimals| {
            let unit = 10f64.powi(decimals);
            (alpha * unit).round() / unit
        };
        let same = |candidate: &f64| scale(*candidate, self.rank, rslora) == self.scale;
        match (0..12).map(rounded).find(same).unwrap_or(alpha) {
            whole if whole.fract() == 0.0 && whole.abs() < 1e15 => json!(whole as i64),
            other => json!(other),
        }
    }
}

/// PEFT `target_modules`: names of weights that all have a LoRA, and full paths of the others.
fn targets(adapters: &Adapters, sites: &[LinearSite], modules: &Modules<'_>) -> BTreeSet<String> {
    let count = |site: &Site, counts: &mut BTreeMap<String, usize>| {
        names(site).into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    };
    let (mut named, mut adapted) = (BTreeMap::new(), BTreeMap::new());
    sites.iter().for_each(|site| count(&site.site, &mut named));
    adapters.loras().for_each(|(site, _)| count(site, &mut adapted));
    let shortest = |(site, _): (&Site, &Lora)| {
        let complete = names(site).into_iter().find(|name| named.get(name) == adapted.get(name));
        complete.unwrap_or_else(|| site.as_str().to_owned())
    };
    adapters.loras().filter(|(site, _)| !modules.contains_key(*site)).map(shortest).collect()
}

/// Names that may stand for a site if they match no site without a LoRA: its leaf, and for an expert also the suffix
/// with its index.
fn names(site: &Site) -> Vec<String> {
    let mut names = vec![site.leaf().to_owned()];
    names
        .extend(suffixes(site.as_str()).find(|end| end.starts_with("experts.")).map(str::to_owned));
    names
}

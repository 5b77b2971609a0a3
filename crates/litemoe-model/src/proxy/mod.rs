//! The proxy that a plan makes of a foundation, written as a model directory.

mod file;
pub(crate) mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use litemoe_core::{Plan, RouterRule};
use litemoe_files::{StagedDir, holds_only};
use serde_json::{Map, Value};

use crate::checkpoint::stored::StoredTensors;
use crate::checkpoint::{PLAN_FILE, weight_files};
use crate::families::family::PROXY_PREFIX;
use crate::json::read_json;
use crate::proxy::file::ProxyDir;
use crate::proxy::weights::{MakeExperts, ProxyWeights};
use crate::{Checkpoint, ModelError};

const WEIGHT_FILE: &str = "model.safetensors";

/// What a model directory may hold beside its configuration and its weights; a proxy takes them over unchanged.
pub const SIDE_FILES: [&str; 9] = [
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// Writes the proxy that a plan makes of a foundation.
///
/// Every tensor but the experts and, under [`RouterRule::DropRows`], the router is copied byte for byte, and so are the values
/// of every expert that `experts` does not make anew; all keep the foundation's dtypes, but for experts in 4-bit blocks, which
/// are written in bf16. Experts are stored as the family's released checkpoints have them: each by its own name, or in stacks.
/// One layer's merged experts are in memory at a time.
///
/// With `drop_rows` the directory is a plain model of the family. With another rule it keeps the router's rows and
/// holds the plan, and its `model_type` begins with `litemoe_`, so that other runtimes refuse it.
///
/// # Errors
/// A plan that does not fit, experts of the wrong shape or not finite, a `target` that is there and is no proxy of an
/// earlier call, and those of the disk; `target` is then as it was.
pub fn write_proxy(
    checkpoint: &Checkpoint,
    plan: &Plan,
    target: &Path,
    experts: MakeExperts<'_>,
) -> Result<(), ModelError> {
    stage_proxy(checkpoint, plan, target, None, experts)?.commit()
}

/// A proxy that is written, but not yet where it is to be. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedProxy {
    dir: StagedDir,
    target: PathBuf,
}

impl StagedProxy {
    /// Where it can be opened until then.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes it the target.
    ///
    /// # Errors
    /// Those of the disk; the target is then as it was.
    pub fn commit(self) -> Result<(), ModelError> {
        self.dir.commit().map_err(ModelError::io(&self.target))
    }
}

/// As [`write_proxy`], but leaves it to the caller to make the proxy the target. `refit` says how its down projections were
/// solved anew, if `experts` makes such: see [`Origin::refit`](crate::Origin::refit).
///
/// # Errors
/// Those of [`write_proxy`].
pub fn stage_proxy(
    checkpoint: &Checkpoint,
    plan: &Plan,
    target: &Path,
    refit: Option<&str>,
    experts: MakeExperts<'_>,
) -> Result<StagedProxy, ModelError> {
    check(checkpoint, plan)?;
    let dir = StagedDir::new(target, is_own).map_err(ModelError::io(target))?;
    write_into(dir, target, checkpoint, ProxyWeights::new(checkpoint, plan, refit, experts))
}

/// Whether a directory is a proxy that [`write_proxy`] wrote, and nothing else.
fn is_own(dir: &Path) -> bool {
    let names = [&["config.json", PLAN_FILE, WEIGHT_FILE], &SIDE_FILES[..]].concat();
    let has_origin = |tensors: StoredTensors| {
        tensors.values().next().is_some_and(|tensor| tensor.file.origin.is_some())
    };
    holds_only(dir, &names) && weight_files::open(dir).is_ok_and(has_origin)
}

fn check(checkpoint: &Checkpoint, plan: &Plan) -> Result<(), ModelError> {
    let dir = checkpoint.dir().to_owned();
    if checkpoint.plan().is_some() {
        return Err(ModelError::IsProxy { dir });
    }
    plan.check(checkpoint.fingerprint(), checkpoint.moe_layers())
        .map_err(|source| ModelError::Plan { path: dir, source })?;
    let mut layers = plan.layers.iter().map(|(&layer, plan)| (layer, plan.groups.len()));
    let Some((first, expected)) = layers.next() else { return Ok(()) };
    match layers.find(|&(_, kept)| kept != expected) {
        Some((layer, kept)) if plan.options.router == RouterRule::DropRows => {
            Err(ModelError::UnevenLayers { layer, kept, first, expected })
        }
        _ => Ok(()),
    }
}

fn write_into(
    dir: StagedDir,
    target: &Path,
    checkpoint: &Checkpoint,
    mut weights: ProxyWeights<'_>,
) -> Result<StagedProxy, ModelError> {
    let plan = weights.plan();
    let mut proxy = ProxyDir { dir, target };
    proxy.file("config.json", |out| out.json(&config(checkpoint, plan)?))?;
    if plan.options.router != RouterRule::DropRows {
        proxy.file(PLAN_FILE, |out| out.json(plan))?;
    }
    for name in SIDE_FILES {
        let from = checkpoint.dir().join(name);
        if from.exists() {
            let bytes = fs::read(&from).map_err(ModelError::io(&from))?;
            proxy.file(name, |out| out.bytes(&bytes))?;
        }
    }
    proxy.file(WEIGHT_FILE, |out| weights.write(out))?;
    Ok(StagedProxy { dir: proxy.dir, target: target.to_owned() })
}

/// The foundation's configuration with the proxy's expert count, or with a model type of our own.
fn config(checkpoint: &Checkpoint, plan: &Plan) -> Result<Value, ModelError> {
    let mut config: Map<String, Value> = read_json(&checkpoint.dir().join("config.json"))?;
    // Experts in 4-bit blocks are written in bf16.
    config.remove("quantization_config");
    if plan.options.router == RouterRule::DropRows {
        let Some(layer) = plan.layers.values().next() else { return Ok(config.into()) };
        for (key, count) in &mut config {
            if checkpoint.family.expert_counts.contains(&key.as_str()) && !count.is_null() {
                *count = layer.groups.len().into();
            }
        }
        return Ok(config.into());
    }
    config.insert("model_type".into(), format!("{PROXY_PREFIX}{}", checkpoint.family()).into());
    // Some runtimes choose the code by class name: leave them nothing to choose.
    config.remove("architectures");
    Ok(config.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use litemoe_core::{Group, LayerPlan, PLAN_VERSION, PlanOptions};

    use super::*;

    #[test]
    fn a_disk_that_is_full_after_any_number_of_bytes_leaves_the_target_as_it_was() {
        let checkpoint = Checkpoint::open(litemoe_fixtures::tiny_dir()).unwrap();
        let plan = first_two(&checkpoint);
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("proxy");
        let write = |max_bytes| {
            let dir = StagedDir::limited(&target, max_bytes).unwrap();
            let mut copies = |_, plan: &LayerPlan| Ok(plan.groups.iter().map(|_| None).collect());
            let weights = ProxyWeights::new(&checkpoint, &plan, None, &mut copies);
            write_into(dir, &target, &checkpoint, weights)?.commit()
        };
        // Every number within the small files and the header, then strides over the tensors.
        for max_bytes in (0..4_000).chain((4_000..500_000).step_by(31_000)) {
            if write(max_bytes).is_ok() {
                assert!(max_bytes > 100_000);
                break;
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "after {max_bytes} bytes");
        }
        assert!(write(u64::MAX).is_ok());
        let whole = fs::read(target.join("model.safetensors")).unwrap();
        assert!(write(100_000).is_err());
        assert_eq!(fs::read(target.join("model.safetensors")).unwrap(), whole);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    fn first_two(checkpoint: &Checkpoint) -> Plan {
        let layers: BTreeMap<_, _> = checkpoint
            .moe_layers()
            .iter()
            .map(|layer| {
                let groups = vec![Group::single(0), Group::single(1)];
                let removed = (2..layer.n_experts).collect();
                (layer.id, LayerPlan { n_experts: layer.n_experts, groups, removed })
            })
            .collect();
        Plan {
            version: PLAN_VERSION,
            fingerprint: checkpoint.fingerprint().clone(),
            input_sha256: String::new(),
            options: PlanOptions::default(),
            layers,
        }
    }
}

//! Writes the proxy model of a plan as a model directory.

pub(crate) mod file;
pub(crate) mod header;
pub(crate) mod names;
mod record;
pub(crate) mod weights;

use std::path::{Path, PathBuf};

use litemoe_core::{Checksummed, LayerPlan, Plan, RouterRule};
use litemoe_files::{StagedDir, check_target, holds_only};
use serde_json::{Map, Value};

use crate::checkpoint::stored::StoredTensors;
use crate::checkpoint::{PLAN_FILE, weight_files};
use crate::config::read::file::CONFIG_LIMITS;
use crate::families::family::PROXY_PREFIX;
use crate::json::read_json;
use crate::proxy::file::ProxyDir;
pub use crate::proxy::names::SIDE_FILES;
use crate::proxy::names::{WEIGHT_FILE, read_side_file};
use crate::proxy::record::{ProxyRecord, RECORD_FILE};
use crate::proxy::weights::{MakeExperts, ProxyWeights};
use crate::{Checkpoint, ModelError};

/// Writes the proxy model that a plan defines on a foundation.
///
/// Copies every tensor byte for byte except the experts and, under [`RouterRule::DropRows`], the router. Experts for
/// which `experts` returns `None` keep their values bit for bit. All keep the foundation's dtypes, except quantised
/// tensors, which are written in bf16. Experts have the layout of the family's released checkpoints: separate or fused
/// tensors. One layer's merged experts are in memory at a time.
///
/// With `drop_rows`, the directory is a plain model of the family. Any other rule keeps the router's rows and adds the
/// plan; the `model_type` then begins with `litemoe_`, so that other runtimes refuse it.
///
/// # Errors
/// When the plan does not fit, an expert has the wrong shape or is not finite, or `target` exists and is not a proxy of
/// an earlier call; and I/O errors. `target` is then unchanged.
pub fn write_proxy(
    checkpoint: &Checkpoint,
    plan: &Plan,
    target: &Path,
    experts: MakeExperts<'_>,
) -> Result<(), ModelError> {
    stage_proxy(checkpoint, plan, target, None, experts)?.commit()
}

/// Checks whether [`write_proxy`] may write to `target`, before any work is done: it does not exist, is an empty directory,
/// or was written by it.
///
/// # Errors
/// As [`write_proxy`] for such a target.
pub fn check_proxy_target(target: &Path) -> Result<(), ModelError> {
    check_target(target, is_own).map_err(ModelError::io(target))
}

/// Bytes of the weight file of a plan's proxy. Reads no weights.
///
/// # Errors
/// As [`write_proxy`] for such a plan.
pub fn proxy_bytes(checkpoint: &Checkpoint, plan: &Plan) -> Result<u64, ModelError> {
    check(checkpoint, plan)?;
    let mut no_experts = |_, _: &LayerPlan| Ok(Vec::new());
    Ok(ProxyWeights::new(checkpoint, plan, None, &mut no_experts).bytes())
}

/// Proxy written to a staging directory, not yet moved to its target. Deleted on drop.
#[derive(Debug)]
pub struct StagedProxy {
    dir: StagedDir,
    target: PathBuf,
}

impl StagedProxy {
    /// Path of the staging directory; the proxy can be opened there before the commit.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Adds `litemoe_proxy.json`, the [record](Checkpoint::check_record) of its files, and moves the proxy to the
    /// target. Reads the files again.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and I/O errors; the target is then unchanged.
    pub fn commit(self) -> Result<(), ModelError> {
        let record = ProxyRecord::of(&Checkpoint::open(self.path())?)?;
        let mut proxy = ProxyDir { dir: self.dir, target: &self.target };
        proxy.file(RECORD_FILE, |out| out.json(&Checksummed(&record)))?;
        proxy.dir.commit().map_err(ModelError::io(&self.target))
    }
}

/// As [`write_proxy`], but leaves the commit to the caller. `refit` says how the down projections were refitted, if
/// `experts` does that: see [`Origin::refit`](crate::Origin::refit).
///
/// # Errors
/// As [`write_proxy`].
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

/// Whether a directory holds a proxy that [`write_proxy`] wrote, and nothing else.
fn is_own(dir: &Path) -> bool {
    let names = [&["config.json", PLAN_FILE, WEIGHT_FILE, RECORD_FILE], &SIDE_FILES[..]].concat();
    let has_origin = |tensors: StoredTensors| {
        tensors.values().next().is_some_and(|tensor| tensor.file.origin.is_some())
    };
    holds_only(dir, &names)
        && weight_files::open(dir).is_ok_and(|opened| has_origin(opened.tensors))
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
        proxy.file(PLAN_FILE, |out| out.compact_json(&Checksummed(plan)))?;
    }
    for name in SIDE_FILES {
        let from = checkpoint.dir().join(name);
        if from.exists() {
            let bytes = read_side_file(&from)?;
            proxy.file(name, |out| out.bytes(&bytes))?;
        }
    }
    proxy.file(WEIGHT_FILE, |out| weights.write(out))?;
    Ok(StagedProxy { dir: proxy.dir, target: target.to_owned() })
}

/// The foundation's configuration with the proxy's expert count, or with a `litemoe_` model type.
fn config(checkpoint: &Checkpoint, plan: &Plan) -> Result<Value, ModelError> {
    let mut config: Map<String, Value> =
        read_json(&checkpoint.dir().join("config.json"), CONFIG_LIMITS)?;
    // Quantised tensors are written in bf16.
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
    // Some runtimes select the code by class name.
    config.remove("architectures");
    Ok(config.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use litemoe_core::{Group, PLAN_VERSION, PlanOptions};

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
        // Every byte count within the small files and the header, then strides over the tensors.
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

//! Opening of a checkpoint: what is read, and what is refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use litemoe_core::{Checksummed, MoeLayer, Plan, Stack};
use litemoe_files::read_json_limited;

use super::quantised::Quantised;
use super::stored::{StoredDtype, StoredTensor, StoredTensors};
use super::{Checkpoint, PLAN_FILE, PLAN_LIMITS, tensors, weight_files};
use crate::ModelError;
use crate::config::read::eos;
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, RopeConfig};
use crate::families::family::{Family, Names};
use crate::families::registry::family_of;
use crate::leftovers::{self, INERT, Leftover, LeftoverReason};

impl Checkpoint {
    /// Opens a directory: reads its configuration and safetensors headers, and checks that the tensors are those of the
    /// model, in their shapes, and at most [leftovers](Self::leftovers) besides.
    ///
    /// # Errors
    /// Names the file and the key or tensor that is wrong.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref().to_owned();
        let Read { family, mut config, is_proxy, quantised, mut leftovers } = read_config(&dir)?;
        if let Some(ids) = eos::read_generation(&dir)? {
            config.eos_ids = ids;
        }
        let plan = if is_proxy { Some(read_plan(&dir)?) } else { None };
        let weight_files::Opened { mut tensors, absent } = weight_files::open(&dir)?;
        let names = names(family, &tensors);
        tensors::name_tied(&config, names, &mut tensors);
        let index_entry = |name| Leftover { name, reason: LeftoverReason::IndexEntry };
        leftovers.extend(absent.into_iter().map(index_entry));
        let mut checkpoint = Self {
            dir,
            family,
            config,
            names,
            plan,
            tensors,
            quantised,
            leftovers,
            layers: Vec::new(),
            fingerprint: OnceLock::new(),
            cache: None,
        };
        checkpoint.cut_blocks();
        checkpoint.check_plan()?;
        checkpoint.leave_unused()?;
        checkpoint.check_quantised()?;
        checkpoint.layers = checkpoint.read_layers()?;
        Ok(checkpoint)
    }

    /// Validates `config.json` alone, before the weights are present; refuses what [`Self::open`] would refuse.
    ///
    /// # Errors
    /// Names the wrong key of `config.json`.
    pub fn check_config(dir: &Path) -> Result<(), ModelError> {
        read_config(dir).map(|_| ())
    }

    /// MoE layers as configured, before a proxy's plan is applied.
    fn configured_layers(&self) -> impl Iterator<Item = MoeLayer> + '_ {
        let d_model = self.config.d_model;
        self.config.blocks().filter_map(move |(id, config)| match config {
            FeedForwardConfig::Moe(moe) => Some(MoeLayer {
                id,
                n_experts: moe.n_experts,
                top_k: moe.top_k,
                groups: moe.expert_groups(),
                d_model,
                d_expert: moe.d_expert,
                expert_bytes: 0,
            }),
            FeedForwardConfig::Dense(_) => None,
        })
    }

    fn check_plan(&self) -> Result<(), ModelError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let layers: Vec<MoeLayer> = self.configured_layers().collect();
        // The plan's fingerprint is the foundation's, which is not available here.
        let checked = plan.check(&plan.fingerprint, &layers);
        checked.map_err(|source| ModelError::Plan { path: self.dir.join(PLAN_FILE), source })
    }

    /// Checks the tensors, and removes those that are leftovers.
    fn leave_unused(&mut self) -> Result<(), ModelError> {
        for leftover in self.check_tensors()? {
            self.tensors.remove(&leftover.name);
            self.leftovers.push(leftover);
        }
        self.leftovers.sort_unstable();
        self.leftovers.dedup();
        Ok(())
    }

    /// Cuts rows of whole blocks to the inputs that the model has.
    fn cut_blocks(&mut self) {
        if self.quantised.is_none() {
            return;
        }
        let expected = tensors::expected(
            &self.config,
            self.names,
            |block| self.n_experts(block),
            &self.tensors,
        );
        let cut = expected.filter(|tensor| {
            self.tensors.get(&*tensor.name).is_some_and(|found| found.holds_blocks(&tensor.shape))
        });
        for tensors::Expected { name, shape, .. } in cut.collect::<Vec<_>>() {
            if let Some(found) = self.tensors.get_mut(&*name) {
                found.shape = shape;
            }
        }
    }

    /// Checks that the model's tensors are there, and returns the leftovers.
    fn check_tensors(&self) -> Result<Vec<Leftover>, ModelError> {
        let names = self.names;
        let expected =
            tensors::expected(&self.config, names, |block| self.n_experts(block), &self.tensors);
        let mut unused: BTreeSet<&str> = self.tensors.keys().map(|name| &**name).collect();
        for tensors::Expected { name, shape, bytes } in expected {
            let Some(found) = self.tensors.get(&*name) else {
                return Err(ModelError::MissingTensor {
                    dir: self.dir.clone(),
                    tensor: name,
                    shape,
                });
            };
            if found.shape != shape {
                return Err(ModelError::Shape {
                    path: found.path().to_owned(),
                    tensor: name,
                    found: found.shape.clone(),
                    expected: shape,
                });
            }
            if bytes != (found.dtype == StoredDtype::U8) || !found.dtype.is_read() {
                return Err(ModelError::Dtype {
                    path: found.path().to_owned(),
                    tensor: name,
                    found: format!("{:?}", safetensors::Dtype::from(found.dtype)),
                });
            }
            unused.remove(&*name);
        }
        let unused = unused.into_iter().filter_map(|name| self.tensors.get_key_value(name));
        unused.map(|(name, tensor)| self.leftover(name, tensor)).collect()
    }

    /// An unused tensor as a leftover.
    ///
    /// # Errors
    /// When it may change what the model computes.
    fn leftover(&self, name: &Arc<str>, tensor: &StoredTensor) -> Result<Leftover, ModelError> {
        let n_blocks = self.config.feed_forward.len();
        let further = n_blocks..n_blocks.saturating_add(self.config.extra_blocks);
        let tied = || self.is_tied_copy(name, tensor).then_some(LeftoverReason::TiedCopy);
        let named = leftovers::of_tensor(name, tensor.dtype.into(), &tensor.shape, &further);
        let reason = named.or_else(tied);
        let reason = reason.ok_or_else(|| ModelError::UnusedTensor {
            path: tensor.path().to_owned(),
            tensor: name.to_string(),
        })?;
        Ok(Leftover { reason, name: name.clone() })
    }

    /// Whether a tensor is one stack's embedding, stored again although it is tied to the other's.
    fn is_tied_copy(&self, name: &str, tensor: &StoredTensor) -> bool {
        let stacks = self.names.own_embeddings.iter().filter(|own| !own.is_empty());
        let is_own = |own: &&str| name.strip_suffix(".weight") == Some(own);
        self.config.tied
            && stacks.copied().any(|own| is_own(&own))
            && tensor.equals(self.embedding(Stack::Decoder))
    }

    fn read_layers(&self) -> Result<Vec<MoeLayer>, ModelError> {
        let measured = self.configured_layers().map(|layer| {
            let block = layer.id;
            let n_experts = self.n_experts(block);
            let first = self.expert_tensors(block, 0);
            let found = first.down.shape();
            let expected = [layer.d_model, layer.d_expert];
            if found != expected || first.up.shape() != [layer.d_expert, layer.d_model] {
                let (dir, layer) = (self.dir.clone(), layer.id);
                return Err(ModelError::ExpertShape { dir, layer, found, expected });
            }
            let expert_bytes = first.bytes_as(self.expert_dtype(block)) as u64;
            Ok(MoeLayer { n_experts, expert_bytes, ..layer })
        });
        measured.collect()
    }
}

/// Tensor names of a checkpoint: the family's first variant whose router exists.
fn names(family: &'static Family, tensors: &StoredTensors) -> &'static Names {
    let used = |names: &&Names| {
        let end = match names.router.rsplit_once('#') {
            Some((_, end)) => format!("{end}.weight"),
            None => format!(".{}.weight", names.router),
        };
        tensors.keys().any(|name| name.ends_with(&end))
    };
    family.names.iter().find(used).unwrap_or(family.released_names())
}

/// What `config.json` says.
struct Read {
    family: &'static Family,
    config: ModelConfig,
    /// Whether it is a proxy's with a router rule of its own.
    is_proxy: bool,
    quantised: Option<Quantised>,
    /// Keys.
    leftovers: Vec<Leftover>,
}

fn read_config(dir: &Path) -> Result<Read, ModelError> {
    let mut file = ConfigFile::open(&dir.join("config.json"))?;
    let (family, is_proxy) = family_of(&mut file)?;
    let quantised = Quantised::take(&mut file, family.model_type)?;
    let config = (family.read)(&mut file)?;
    let pairs = config.attention.d_rotated() / 2;
    let rope = config.attention.rope.as_ref();
    if rope.is_some_and(|rope| !rope.is_finite(config.attention.d_rotated())) {
        return Err(file.wrong_rope("with frequencies and factors that f32 can hold"));
    }
    let found = rope.and_then(RopeConfig::pairs);
    if found.is_some_and(|found| found != pairs) {
        return Err(file.wrong_rope(&format!("with {pairs} factors")));
    }
    let keys = file.finish(family.model_type, &[INERT, family.harmless].concat())?;
    let leftover = |key: String| Leftover { reason: LeftoverReason::Key, name: key.into() };
    let leftovers = keys.into_iter().map(leftover).collect();
    Ok(Read { family, config, is_proxy, quantised, leftovers })
}

fn read_plan(dir: &Path) -> Result<Plan, ModelError> {
    let path = dir.join(PLAN_FILE);
    let bytes = read_json_limited(&path, PLAN_LIMITS).map_err(ModelError::io(&path))?;
    Checksummed::parse(&bytes).map_err(ModelError::checksum(&path))
}

//! Checkpoint: a model directory with its configuration, weight files and expert layout.

pub(crate) mod expert_part;
pub(crate) mod expert_tensors;
mod fingerprint;
mod header;
mod loaded;
pub(crate) mod matrix_rows;
pub(crate) mod origin;
pub(crate) mod parts;
pub(crate) mod stored;
pub(crate) mod tensors;
pub(crate) mod weight_files;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use litemoe_core::{
    Checksummed, ExpertId, ExpertSource, ExpertWeights, Fingerprint, LayerId, LayerPlan, MoeLayer,
    Plan, Stack,
};
use litemoe_files::{JsonLimits, read_json_limited};

use crate::checkpoint::expert_tensors::ExpertTensors;
use crate::checkpoint::stored::{StoredDtype, StoredTensor, StoredTensors};
use crate::config::read::eos;
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, RopeConfig};
use crate::families::family::{Family, Names};
use crate::families::registry::family_of;
use crate::leftovers::{self, INERT, Leftover, LeftoverReason};
use crate::{ModelError, Origin};

/// File in a proxy's directory with its plan, which sets the router rule.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// Checkpoint: a Hugging Face model directory, validated and memory-mapped. Weights are read on use.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(crate) dir: PathBuf,
    pub(crate) family: &'static Family,
    pub(crate) config: ModelConfig,
    /// Tensor names.
    pub(crate) names: &'static Names,
    /// Plan of a proxy with a router rule of its own (not `drop_rows`).
    pub(crate) plan: Option<Plan>,
    pub(crate) tensors: StoredTensors,
    leftovers: Vec<Leftover>,
    layers: Vec<MoeLayer>,
    fingerprint: OnceLock<Fingerprint>,
    cache: Option<Arc<dyn FingerprintCache>>,
}

/// Cache of one checkpoint's fingerprint between runs, so that a large checkpoint is not hashed again and again.
///
/// The implementation decides how a change of the files is noticed.
pub trait FingerprintCache: std::fmt::Debug + Send + Sync {
    /// The fingerprint, if it is known and no file has changed since.
    fn find(&self) -> Option<Fingerprint>;

    /// Stores the fingerprint that was computed.
    fn keep(&self, fingerprint: &Fingerprint);
}

impl Checkpoint {
    /// Opens a directory: reads its configuration and safetensors headers, and checks that the tensors are those of the
    /// model, in their shapes, and at most [leftovers](Self::leftovers) besides.
    ///
    /// # Errors
    /// Names the file and the key or tensor that is wrong.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref().to_owned();
        let (family, mut config, is_proxy, mut leftovers) = read_config(&dir)?;
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
            leftovers,
            layers: Vec::new(),
            fingerprint: OnceLock::new(),
            cache: None,
        };
        checkpoint.check_plan()?;
        checkpoint.leave_unused()?;
        checkpoint.layers = checkpoint.read_layers()?;
        Ok(checkpoint)
    }

    /// Sets the cache that [`Self::fingerprint`] consults before hashing.
    #[must_use]
    pub fn cached(self, cache: Arc<dyn FingerprintCache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Validates `config.json` alone, before the weights are present; refuses what [`Self::open`] would refuse.
    ///
    /// # Errors
    /// Names the wrong key of `config.json`.
    pub fn check_config(dir: &Path) -> Result<(), ModelError> {
        read_config(dir).map(|_| ())
    }

    /// Path of the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of the directory.
    pub fn name(&self) -> String {
        let path = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// `model_type` without a proxy's prefix.
    pub fn family(&self) -> &'static str {
        self.family.model_type
    }

    /// Model configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// End-of-sequence (EOS) token ids; `generation_config.json` takes precedence over `config.json`.
    pub fn eos_ids(&self) -> &[u32] {
        &self.config.eos_ids
    }

    /// Plan of a proxy with a router rule of its own (not `drop_rows`).
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Provenance of a proxy; `None` for any other model.
    pub fn origin(&self) -> Option<&Origin> {
        self.tensors.values().find_map(|tensor| tensor.file.origin.as_ref())
    }

    /// What the files hold and the model does not use, because it changes nothing. Anything else that is unused is
    /// refused.
    pub fn leftovers(&self) -> &[Leftover] {
        &self.leftovers
    }

    /// MoE layers in execution order.
    pub fn moe_layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    /// Size of all tensors as stored, in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.range.len() as u64).sum()
    }

    /// Size of all routed experts as stored, in bytes.
    pub fn expert_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.n_experts as u64 * layer.expert_bytes).sum()
    }

    /// Checks that every weight is finite; reads all of them.
    ///
    /// # Errors
    /// When one is not; names its tensor.
    pub(crate) fn check_finite(&self) -> Result<(), ModelError> {
        let numbers = self.tensors.values().filter(|tensor| tensor.dtype != StoredDtype::U8);
        numbers.into_iter().try_for_each(StoredTensor::check)?;
        for layer in &self.layers {
            for expert in 0..layer.n_experts {
                self.expert_tensors(layer.id, expert).check_quantised()?;
            }
        }
        Ok(())
    }

    /// Fingerprint: SHA-256 of everything that changes what the model computes. Hashes all weights, once per
    /// checkpoint.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.get_or_init(|| {
            if let Some(known) = self.cache.as_ref().and_then(|cache| cache.find()) {
                return known;
            }
            let found = fingerprint::of(&self.config, self.plan.as_ref(), &self.tensors);
            if let Some(cache) = &self.cache {
                cache.keep(&found);
            }
            found
        })
    }

    /// Routed experts, readable one at a time onto a device.
    pub fn experts<'a>(&'a self, device: &Device) -> CheckpointExperts<'a> {
        CheckpointExperts { checkpoint: self, device: device.clone() }
    }

    /// Token embedding of a stack.
    pub(crate) fn embedding(&self, stack: Stack) -> &StoredTensor {
        let name = match self.config.embeds_twice() {
            true => Names::of(stack, self.names.own_embeddings),
            false => self.names.embedding,
        };
        self.tensor(&format!("{name}.weight"))
    }

    /// Tensor by name; [`Self::open`] checked that it exists.
    pub(crate) fn tensor(&self, name: &str) -> &StoredTensor {
        &self.tensors[name]
    }

    /// Plan of an MoE block, in a proxy with a router rule of its own.
    pub(crate) fn layer_plan(&self, block: LayerId) -> Option<&LayerPlan> {
        self.plan.as_ref()?.layers.get(&block)
    }

    /// Stored tensors of one expert of a block.
    pub(crate) fn expert_tensors(&self, block: LayerId, expert: usize) -> ExpertTensors {
        ExpertTensors::find(&self.tensors, self.names, block, expert)
    }

    /// Number format of a block's experts in a proxy: the narrowest that holds the values of all of them.
    pub(crate) fn expert_dtype(&self, block: LayerId) -> StoredDtype {
        let experts = (0..self.n_experts(block)).map(|expert| self.expert_tensors(block, expert));
        let widest = |expert: ExpertTensors| expert.dtypes().reduce(StoredDtype::widest);
        let dtype = experts.filter_map(widest).reduce(StoredDtype::widest);
        dtype.expect("a block of experts has one")
    }

    /// Routed experts stored in a block; 0 if dense.
    pub(crate) fn n_experts(&self, block: LayerId) -> usize {
        match (self.layer_plan(block), self.config.feed_forward_of(block)) {
            (Some(plan), _) => plan.groups.len(),
            (None, FeedForwardConfig::Moe(moe)) => moe.n_experts,
            (None, FeedForwardConfig::Dense(_)) => 0,
        }
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

/// Limits of a proxy's plan, far above any model: a permutation of the neurons of every expert.
pub(crate) const PLAN_LIMITS: JsonLimits = JsonLimits { max_bytes: 1 << 30, max_values: 1 << 28 };

/// Family, configuration, whether it is a proxy's with a router rule of its own, and the leftover keys.
type Read = (&'static Family, ModelConfig, bool, Vec<Leftover>);

fn read_config(dir: &Path) -> Result<Read, ModelError> {
    let mut file = ConfigFile::open(&dir.join("config.json"))?;
    let (family, is_proxy) = family_of(&mut file)?;
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
    Ok((family, config, is_proxy, keys.into_iter().map(leftover).collect()))
}

fn read_plan(dir: &Path) -> Result<Plan, ModelError> {
    let path = dir.join(PLAN_FILE);
    let bytes = read_json_limited(&path, PLAN_LIMITS).map_err(ModelError::io(&path))?;
    Checksummed::parse(&bytes).map_err(ModelError::checksum(&path))
}

/// Routed experts of a checkpoint, read from the memory map onto a device on request.
#[derive(Debug, Clone)]
pub struct CheckpointExperts<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
}

impl ExpertSource for CheckpointExperts<'_> {
    type Error = ModelError;

    fn moe_layers(&self) -> &[MoeLayer] {
        self.checkpoint.moe_layers()
    }

    fn expert(&self, id: ExpertId) -> Result<ExpertWeights, ModelError> {
        let layer = self.moe_layers().iter().find(|layer| layer.id == id.layer);
        if layer.is_none_or(|layer| id.expert >= layer.n_experts) {
            return Err(ModelError::NoSuchExpert { dir: self.checkpoint.dir.clone(), expert: id });
        }
        self.checkpoint.expert_tensors(id.layer, id.expert).read(&self.device)
    }
}

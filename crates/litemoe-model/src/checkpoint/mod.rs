//! Checkpoint: a model directory with its configuration, weight files and expert layout.

pub(crate) mod block_dtype;
pub(crate) mod expert_part;
pub(crate) mod expert_tensors;
pub(crate) mod experts;
mod fingerprint;
mod header;
mod loaded;
pub(crate) mod matrix_rows;
mod open;
pub(crate) mod origin;
pub(crate) mod packed_as;
pub(crate) mod parts;
pub(crate) mod quantised;
mod quantised_tensors;
pub(crate) mod stored;
pub(crate) mod tensors;
pub(crate) mod weight_files;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use litemoe_core::{Fingerprint, LayerId, LayerPlan, MoeLayer, Plan, Stack};
use litemoe_files::JsonLimits;

use crate::Origin;
use crate::checkpoint::quantised::Quantised;
use crate::checkpoint::stored::{StoredTensor, StoredTensors};
use crate::config::ModelConfig;
use crate::families::family::{Family, Names};
use crate::leftovers::Leftover;

/// File in a proxy's directory with its plan, which sets the router rule.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// Limits of a proxy's plan, far above any model: a permutation of the neurons of every expert.
pub(crate) const PLAN_LIMITS: JsonLimits = JsonLimits { max_bytes: 1 << 30, max_values: 1 << 28 };

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
    quantised: Option<Quantised>,
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
    /// Sets the cache that [`Self::fingerprint`] consults before hashing.
    #[must_use]
    pub fn cached(self, cache: Arc<dyn FingerprintCache>) -> Self {
        Self { cache: Some(cache), ..self }
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

    /// How the weights were quantised by [`Quantisation`](crate::Quantisation); `None` for any other model.
    pub fn quantised(&self) -> Option<&Quantised> {
        self.quantised.as_ref()
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

    /// Size of all routed experts in bytes, as a proxy would have them: quantised ones in bf16.
    pub fn expert_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.n_experts as u64 * layer.expert_bytes).sum()
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
}

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use litemoe_core::{
    ExpertId, ExpertSource, ExpertWeights, Fingerprint, LayerId, LayerPlan, MoeLayer, Plan, Stack,
};

use crate::config::{FeedForwardConfig, ModelConfig};
use crate::config_file::ConfigFile;
use crate::decoder_config::HARMLESS;
use crate::family::{Family, Names};
use crate::stored::StoredTensor;
use crate::weight_files::StoredTensors;
use crate::{ModelError, Origin, eos, fingerprint, tensors, weight_files};

/// File beside a proxy's `config.json` that says what its router does.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// A Hugging Face model directory, checked and memory-mapped; no weight is read before it is asked for.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) dir: PathBuf,
    pub(crate) family: &'static Family,
    pub(crate) config: ModelConfig,
    /// How its tensors are named.
    pub(crate) names: &'static Names,
    /// What a proxy with a router rule of its own was made by.
    pub(crate) plan: Option<Plan>,
    pub(crate) tensors: StoredTensors,
    layers: Vec<MoeLayer>,
    fingerprint: OnceLock<Fingerprint>,
}

/// One expert as it lies in the files: gate, up and down, each `[out, in]`.
#[derive(Debug)]
pub(crate) struct ExpertTensors {
    pub(crate) gate: StoredTensor,
    pub(crate) up: StoredTensor,
    pub(crate) down: StoredTensor,
}

impl Checkpoint {
    /// Opens a directory: reads its configuration and the headers of its weight files, and checks that every
    /// tensor of the model is there in its shape, and nothing else.
    ///
    /// # Errors
    /// Names the file and the key or tensor that is wrong.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref().to_owned();
        let (family, mut config, is_proxy) = read_config(&dir)?;
        if let Some(ids) = eos::read_generation(&dir)? {
            config.eos_ids = ids;
        }
        let plan = if is_proxy { Some(read_plan(&dir)?) } else { None };
        let tensors = weight_files::open(&dir)?;
        let fingerprint = OnceLock::new();
        let names = names(family, &tensors);
        let mut checkpoint =
            Self { dir, family, config, names, plan, tensors, layers: Vec::new(), fingerprint };
        checkpoint.check_plan()?;
        checkpoint.check_tensors()?;
        checkpoint.layers = checkpoint.read_layers()?;
        Ok(checkpoint)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory's own name.
    pub fn name(&self) -> String {
        let path = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The `model_type`, without a proxy's prefix.
    pub fn family(&self) -> &'static str {
        self.family.model_type
    }

    /// What the configuration says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The ids that end a text; `generation_config.json` goes before `config.json`.
    pub fn eos_ids(&self) -> &[u32] {
        &self.config.eos_ids
    }

    /// The plan that a proxy with a router rule of its own was made by.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What a proxy was made from; `None` of any other model.
    pub fn origin(&self) -> Option<&Origin> {
        self.tensors.values().find_map(|tensor| tensor.file.origin.as_ref())
    }

    /// The mixture-of-experts layers, in the order they run.
    pub fn moe_layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    /// Bytes of all tensors as stored.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.range.len() as u64).sum()
    }

    /// Bytes of all routed experts as stored.
    pub fn expert_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.n_experts as u64 * layer.expert_bytes).sum()
    }

    /// Names what the model computes; read once per checkpoint, all bytes of it.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.get_or_init(|| fingerprint::of(self))
    }

    /// The experts, readable one at a time onto a device.
    pub fn experts<'a>(&'a self, device: &Device) -> CheckpointExperts<'a> {
        CheckpointExperts { checkpoint: self, device: device.clone() }
    }

    /// A tensor that [`Self::open`] has found.
    pub(crate) fn tensor(&self, name: &str) -> &StoredTensor {
        &self.tensors[name]
    }

    /// What the plan says of a block of experts, in a proxy with a router rule of its own.
    pub(crate) fn layer_plan(&self, block: usize) -> Option<&LayerPlan> {
        self.plan.as_ref()?.layers.get(&LayerId::decoder(block))
    }

    /// Where the experts of a block lie.
    pub(crate) fn expert_tensors(&self, block: usize, expert: usize) -> ExpertTensors {
        let names = self.names;
        let block = tensors::block(block);
        if tensors::is_fused(&self.tensors, &block, names) {
            let [gate_up, down] =
                names.stacks.map(|stack| self.tensor(&format!("{block}.{stack}")));
            let (d_expert, d_model) = (gate_up.shape[1] / 2, down.shape[1]);
            return ExpertTensors {
                gate: gate_up.rows_of(expert, 0..d_expert),
                up: gate_up.rows_of(expert, d_expert..2 * d_expert),
                down: down.rows_of(expert, 0..d_model),
            };
        }
        let experts = format!("{block}.{}", names.experts);
        let [gate, up, down] = names
            .parts
            .map(|part| self.tensor(&format!("{experts}.{expert}.{part}.weight")).clone());
        ExpertTensors { gate, up, down }
    }

    /// Experts really stored in a block.
    pub(crate) fn n_experts(&self, block: usize) -> usize {
        match (self.layer_plan(block), self.config.feed_forward[block]) {
            (Some(plan), _) => plan.groups.len(),
            (None, FeedForwardConfig::Moe { n_experts, .. }) => n_experts,
            (None, FeedForwardConfig::Dense { .. }) => 0,
        }
    }

    /// The layers as the configuration has them: what a proxy's plan was made for.
    fn configured_layers(&self) -> impl Iterator<Item = MoeLayer> + '_ {
        let d_model = self.config.d_model;
        self.config.feed_forward.iter().enumerate().filter_map(move |(block, config)| match *config
        {
            FeedForwardConfig::Moe { n_experts, top_k, d_expert, .. } => {
                let id = LayerId::decoder(block);
                Some(MoeLayer { id, n_experts, top_k, d_model, d_expert, expert_bytes: 0 })
            }
            FeedForwardConfig::Dense { .. } => None,
        })
    }

    fn check_plan(&self) -> Result<(), ModelError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let layers: Vec<MoeLayer> = self.configured_layers().collect();
        // The fingerprint in the plan is the foundation's, which is not at hand.
        let checked = plan.check(&plan.fingerprint, &layers);
        checked.map_err(|source| ModelError::Plan { path: self.dir.join(PLAN_FILE), source })
    }

    fn check_tensors(&self) -> Result<(), ModelError> {
        let names = self.names;
        let expected =
            tensors::expected(&self.config, names, |block| self.n_experts(block), &self.tensors);
        let mut unused: BTreeSet<&str> = self.tensors.keys().map(|name| &**name).collect();
        for tensors::Expected { name, shape } in expected {
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
            unused.remove(&*name);
        }
        match unused.first() {
            Some(&name) => Err(ModelError::UnusedTensor {
                path: self.tensor(name).path().to_owned(),
                tensor: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn read_layers(&self) -> Result<Vec<MoeLayer>, ModelError> {
        let measured = self.configured_layers().map(|layer| {
            let block = layer.id.block;
            let n_experts = self.n_experts(block);
            let dtypes = |expert| {
                let ExpertTensors { gate, up, down } = self.expert_tensors(block, expert);
                [gate.dtype, up.dtype, down.dtype]
            };
            let dtype = dtypes(0)[0];
            if (0..n_experts).any(|expert| dtypes(expert) != [dtype; 3]) {
                return Err(ModelError::MixedExperts { dir: self.dir.clone(), layer: layer.id });
            }
            let expert_bytes = (3 * layer.d_model * layer.d_expert * dtype.size()) as u64;
            Ok(MoeLayer { n_experts, expert_bytes, ..layer })
        });
        measured.collect()
    }
}

/// How a checkpoint of a family names its tensors: as the first router that is there is called.
fn names(family: &'static Family, tensors: &StoredTensors) -> &'static Names {
    let used = |names: &&Names| {
        let end = format!(".{}.weight", names.router);
        tensors.keys().any(|name| name.ends_with(&end))
    };
    family.names.iter().find(used).unwrap_or(family.released_names())
}

fn read_config(dir: &Path) -> Result<(&'static Family, ModelConfig, bool), ModelError> {
    let mut file = ConfigFile::open(&dir.join("config.json"))?;
    let (family, is_proxy) = Family::of(&mut file)?;
    let config = (family.read)(&mut file)?;
    file.finish(family.model_type, &[HARMLESS, family.harmless].concat())?;
    Ok((family, config, is_proxy))
}

fn read_plan(dir: &Path) -> Result<Plan, ModelError> {
    let path = dir.join(PLAN_FILE);
    let bytes = fs::read(&path).map_err(ModelError::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|source| ModelError::Json { path, source })
}

/// A checkpoint's experts, read from the map onto a device when asked for.
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
        if !layer
            .is_some_and(|layer| id.expert < layer.n_experts && id.layer.stack == Stack::Decoder)
        {
            return Err(ModelError::NoSuchExpert { dir: self.checkpoint.dir.clone(), expert: id });
        }
        let ExpertTensors { gate, up, down } =
            self.checkpoint.expert_tensors(id.layer.block, id.expert);
        Ok(ExpertWeights {
            gate: Some(gate.tensor(&self.device)?),
            up: up.tensor(&self.device)?,
            down: down.tensor(&self.device)?,
        })
    }
}

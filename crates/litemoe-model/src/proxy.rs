//! Proxies out: a smaller model directory, written tensor by tensor.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use litemoe_core::{ExpertWeights, LayerId, LayerPlan, Plan, RouterRule};
use litemoe_kernels::StagedDir;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::Value;

use crate::checkpoint::PLAN_FILE;
use crate::family::PROXY_PREFIX;
use crate::stored::{StoredDtype, StoredTensor};
use crate::{Checkpoint, ModelError, tensors};

/// What a proxy takes over unchanged, where the foundation has it.
const SIDE_FILES: [&str; 9] = [
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

/// Makes a layer's kept experts in the proxy's order; `None` for one that nothing is merged into, whose bytes are copied.
pub type MakeExperts<'a> = &'a mut dyn FnMut(
    LayerId,
    &LayerPlan,
) -> Result<Vec<Option<ExpertWeights>>, Box<dyn Error + Send + Sync>>;

/// Writes the proxy that a plan makes of a foundation: every tensor but the experts and, under
/// [`RouterRule::DropRows`], the router byte for byte, in the foundation's dtypes; experts each by its own name, as
/// released checkpoints have them. `experts` is asked once a layer, and one layer's merged experts are in memory at once.
///
/// With `drop_rows` the directory is a plain model of the family. With another rule it keeps the router's rows, holds
/// the plan, and its `model_type` begins with `litemoe_`, so that other runtimes refuse it.
///
/// # Errors
/// A plan that does not fit, experts of the wrong shape or not finite, and those of the disk; `target` is then as it was.
pub fn write_proxy(
    checkpoint: &Checkpoint,
    plan: &Plan,
    target: &Path,
    experts: MakeExperts<'_>,
) -> Result<(), ModelError> {
    check(checkpoint, plan)?;
    let mut dir = StagedDir::new(target).map_err(ModelError::io(target))?;
    let config = config(checkpoint, plan)?;
    file(&mut dir, target, "config.json", |out| write_json(out, &config))?;
    if plan.options.router != RouterRule::DropRows {
        file(&mut dir, target, PLAN_FILE, |out| write_json(out, plan))?;
    }
    for name in SIDE_FILES {
        let from = checkpoint.dir().join(name);
        if from.exists() {
            let bytes = fs::read(&from).map_err(ModelError::io(&from))?;
            file(&mut dir, target, name, |out| Ok(out.write_all(&bytes)?))?;
        }
    }
    let mut weights = Weights::new(checkpoint, plan, experts);
    file(&mut dir, target, "model.safetensors", |out| weights.write(out))?;
    dir.commit().map_err(ModelError::io(target))
}

fn check(checkpoint: &Checkpoint, plan: &Plan) -> Result<(), ModelError> {
    if checkpoint.plan().is_some() {
        return Err(ModelError::IsProxy { dir: checkpoint.dir().to_owned() });
    }
    plan.check(checkpoint.fingerprint(), checkpoint.moe_layers())
        .map_err(|source| ModelError::Plan { path: checkpoint.dir().to_owned(), source })?;
    let mut layers = plan.layers.iter().map(|(&layer, plan)| (layer, plan.groups.len()));
    let Some((first, expected)) = layers.next() else { return Ok(()) };
    let uneven = layers.find(|&(_, kept)| kept != expected);
    match uneven.filter(|_| plan.options.router == RouterRule::DropRows) {
        Some((layer, kept)) => Err(ModelError::UnevenLayers { layer, kept, first, expected }),
        None => Ok(()),
    }
}

/// The foundation's configuration with the proxy's expert count, or with a model type of our own.
fn config(checkpoint: &Checkpoint, plan: &Plan) -> Result<Value, ModelError> {
    let path = checkpoint.dir().join("config.json");
    let bytes = fs::read(&path).map_err(ModelError::io(&path))?;
    let mut config: Value =
        serde_json::from_slice(&bytes).map_err(|source| ModelError::Json { path, source })?;
    if plan.options.router != RouterRule::DropRows {
        config["model_type"] = format!("{PROXY_PREFIX}{}", checkpoint.family()).into();
        return Ok(config);
    }
    if let Some(kept) = plan.layers.values().next().map(|layer| layer.groups.len()) {
        for key in checkpoint.family.expert_counts {
            if config.get(key).is_some_and(|count| !count.is_null()) {
                config[*key] = kept.into();
            }
        }
    }
    Ok(config)
}

/// Writes one file of the proxy; an error of the disk names the file in the target.
fn file(
    dir: &mut StagedDir,
    target: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), WriteError>,
) -> Result<(), ModelError> {
    let io = |error| ModelError::io(&target.join(name))(error);
    let mut out = dir.file(name).map_err(io)?;
    write(&mut out).and_then(|()| Ok(out.flush()?)).map_err(|error| match error {
        WriteError::Io(error) => io(error),
        WriteError::Model(error) => *error,
    })
}

/// A disk that fails, or weights that are not what they should be.
enum WriteError {
    Io(io::Error),
    Model(Box<ModelError>),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ModelError> for WriteError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

fn write_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), WriteError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// What stands behind a name of the proxy.
enum Source {
    /// The foundation's bytes.
    Copy(StoredTensor),
    /// These rows of the foundation's router.
    Rows(StoredTensor, Vec<usize>),
    /// A matrix of a kept expert: gate, up or down. The tensor is the host's own.
    Expert { layer: LayerId, group: usize, part: usize, host: StoredTensor },
}

impl Source {
    fn stored(&self) -> &StoredTensor {
        match self {
            Self::Copy(tensor) | Self::Rows(tensor, _) | Self::Expert { host: tensor, .. } => tensor,
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Rows(tensor, rows) => vec![rows.len(), tensor.shape[1]],
            other => other.stored().shape.clone(),
        }
    }
}

/// The proxy's tensors, by name; a layer's experts lie side by side in that order.
struct Weights<'a> {
    plan: &'a Plan,
    sources: BTreeMap<Arc<str>, Source>,
    make: MakeExperts<'a>,
    /// The merged experts of the layer that is being written.
    merged: Option<(LayerId, Vec<Option<ExpertWeights>>)>,
}

impl<'a> Weights<'a> {
    fn new(checkpoint: &Checkpoint, plan: &'a Plan, make: MakeExperts<'a>) -> Self {
        let names = &checkpoint.family.names;
        let mut sources: BTreeMap<Arc<str>, Source> = checkpoint
            .tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), Source::Copy(tensor.clone())))
            .collect();
        for (&layer, layer_plan) in &plan.layers {
            let block = tensors::block(layer.block);
            let experts = format!("{block}.{}", names.experts);
            sources.retain(|name, _| !name.starts_with(&format!("{experts}.")));
            for (group, host) in layer_plan.hosts().into_iter().enumerate() {
                let stored = checkpoint.expert_tensors(layer.block, host);
                let parts = [stored.gate, stored.up, stored.down];
                for (part, (leaf, host)) in names.parts.iter().zip(parts).enumerate() {
                    let name = format!("{experts}.{group}.{leaf}.weight");
                    sources.insert(name.into(), Source::Expert { layer, group, part, host });
                }
            }
            if plan.options.router == RouterRule::DropRows {
                let router: Arc<str> = format!("{block}.{}.weight", names.router).into();
                let rows = Source::Rows(checkpoint.tensor(&router).clone(), layer_plan.hosts());
                sources.insert(router, rows);
            }
        }
        Self { plan, sources, make, merged: None }
    }

    fn write(&mut self, out: &mut dyn Write) -> Result<(), WriteError> {
        let header = self.header()?;
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, source) in std::mem::take(&mut self.sources) {
            match source {
                Source::Copy(tensor) => out.write_all(tensor.bytes())?,
                Source::Rows(tensor, rows) => {
                    let width = tensor.shape[1] * tensor.dtype.size();
                    for row in rows {
                        out.write_all(&tensor.bytes()[row * width..][..width])?;
                    }
                }
                Source::Expert { layer, group, part, host } => {
                    out.write_all(&self.expert(layer, group, part, &host)?)?;
                }
            }
        }
        Ok(())
    }

    /// The safetensors header, padded so that the tensors are aligned.
    fn header(&self) -> Result<Vec<u8>, WriteError> {
        let mut end = 0;
        let infos = self.sources.iter().map(|(name, source)| {
            let (shape, dtype) = (source.shape(), source.stored().dtype);
            let start = end;
            end += shape.iter().product::<usize>() * dtype.size();
            let dtype = safetensors_dtype(dtype);
            (name.to_string(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        });
        let infos = infos.collect();
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let metadata = Metadata::new(Some(metadata), infos).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&metadata).map_err(io::Error::from)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }

    fn expert(
        &mut self,
        layer: LayerId,
        group: usize,
        part: usize,
        host: &StoredTensor,
    ) -> Result<Vec<u8>, ModelError> {
        if self.merged.as_ref().is_none_or(|(made, _)| *made != layer) {
            self.merged = None; // freed before the next layer's are made
            self.merged = Some((layer, self.make_layer(layer)?));
        }
        let expert = layer.expert(self.plan.layers[&layer].groups[group].host);
        let merged = self.merged.as_ref().and_then(|(_, experts)| experts[group].as_ref());
        let Some(weights) = merged else { return Ok(host.bytes().to_vec()) };
        let matrices: [Option<&Tensor<2>>; 3] =
            [weights.gate.as_ref(), Some(&weights.up), Some(&weights.down)];
        let found = matrices[part].map_or(vec![], |matrix| matrix.dims().to_vec());
        let Some(matrix) = matrices[part].filter(|_| found == host.shape) else {
            return Err(ModelError::MergedShape { expert, found, expected: host.shape.clone() });
        };
        let values = matrix.to_data().try_into_vec::<f32>();
        let values = values.expect("expert weights are in f32");
        let mut bytes = Vec::new();
        if host.dtype.encode(&values, &mut bytes) {
            return Ok(bytes);
        }
        Err(ModelError::MergedNotFinite { expert, dtype: host.dtype.name() })
    }

    fn make_layer(&mut self, layer: LayerId) -> Result<Vec<Option<ExpertWeights>>, ModelError> {
        let plan = &self.plan.layers[&layer];
        let expert = layer.expert(plan.groups[0].host);
        let failed = |source| ModelError::Merge { expert, source };
        let made = (self.make)(layer, plan).map_err(failed)?;
        if made.len() == plan.groups.len() {
            return Ok(made);
        }
        let (found, expected) = (vec![made.len()], vec![plan.groups.len()]);
        Err(ModelError::MergedShape { expert, found, expected })
    }
}

fn safetensors_dtype(dtype: StoredDtype) -> Dtype {
    match dtype {
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::Bf16 => Dtype::BF16,
        StoredDtype::F16 => Dtype::F16,
    }
}

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::error::Error;

use burn::tensor::Tensor;
use litemoe_core::{ExpertWeights, LayerId, LayerPlan, Plan, RouterRule};
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use crate::family::Names;
use crate::origin::{ORIGIN_FOUNDATION, ORIGIN_PLAN};
use crate::proxy::ProxyFile;
use crate::stored::StoredTensor;
use crate::{Checkpoint, ModelError, tensors};

/// Makes a layer's kept experts in the proxy's order; `None` for one whose stored bytes are to be copied.
pub type MakeExperts<'a> =
    &'a mut dyn FnMut(
        LayerId,
        &LayerPlan,
    ) -> Result<Vec<Option<ExpertWeights>>, Box<dyn Error + Send + Sync>>;

/// What stands behind a name of the proxy.
enum Source {
    /// The foundation's bytes.
    Copy(StoredTensor),
    /// These rows of the foundation's router.
    Rows(StoredTensor, Vec<usize>),
    /// A matrix of a kept expert: gate, up or down. The tensor is the host's own.
    Expert { layer: LayerId, group: usize, part: usize, host: StoredTensor },
    /// Such matrices one after the other, as a stack of this shape.
    Stack(Vec<Source>, [usize; 3]),
}

impl Source {
    fn stored(&self) -> &StoredTensor {
        match self {
            Self::Copy(tensor) | Self::Rows(tensor, _) | Self::Expert { host: tensor, .. } => {
                tensor
            }
            Self::Stack(parts, _) => parts[0].stored(),
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Rows(tensor, rows) => vec![rows.len(), tensor.shape[1]],
            Self::Stack(_, shape) => shape.to_vec(),
            other => other.stored().shape.clone(),
        }
    }
}

/// A proxy's tensors in the order they lie in the file. The experts of a layer, all of one dtype, lie side by side.
pub(crate) struct ProxyWeights<'a> {
    plan: &'a Plan,
    sources: Vec<(String, Source)>,
    make: MakeExperts<'a>,
    /// The merged experts of the layer that is being written.
    made: Option<(LayerId, Vec<Option<ExpertWeights>>)>,
}

impl<'a> ProxyWeights<'a> {
    pub(crate) fn new(checkpoint: &Checkpoint, plan: &'a Plan, make: MakeExperts<'a>) -> Self {
        let mut sources: BTreeMap<String, Source> = checkpoint
            .tensors
            .iter()
            .map(|(name, tensor)| (name.to_string(), Source::Copy(tensor.clone())))
            .collect();
        for (&layer, layer_plan) in &plan.layers {
            replace_experts(&mut sources, checkpoint, layer, layer_plan);
            replace_router(&mut sources, checkpoint, layer, layer_plan, plan.options.router);
        }
        let mut sources: Vec<_> = sources.into_iter().collect();
        // Wide values first, as the format's own writer does: every tensor is then aligned.
        sources.sort_by_key(|(_, source)| Reverse(source.stored().dtype.size()));
        Self { plan, sources, make, made: None }
    }

    pub(crate) fn write(&mut self, out: &mut ProxyFile<'_>) -> Result<(), ModelError> {
        let header = self.header();
        out.bytes(&(header.len() as u64).to_le_bytes())?;
        out.bytes(&header)?;
        let sources = std::mem::take(&mut self.sources);
        sources.into_iter().try_for_each(|(_, source)| self.write_source(source, out))
    }

    fn write_source(&mut self, source: Source, out: &mut ProxyFile<'_>) -> Result<(), ModelError> {
        match source {
            Source::Stack(parts, _) => {
                parts.into_iter().try_for_each(|part| self.write_source(part, out))?;
            }
            Source::Copy(tensor) => tensor.read(|bytes| out.bytes(bytes))?,
            Source::Rows(tensor, rows) => {
                for row in rows {
                    tensor.rows(row..row + 1).read(|bytes| out.bytes(bytes))?;
                }
            }
            Source::Expert { layer, group, part, host } => {
                match self.merged(layer, group, part, &host)? {
                    Some(bytes) => out.bytes(&bytes)?,
                    None => host.read(|bytes| out.bytes(bytes))?,
                }
            }
        }
        Ok(())
    }

    /// The safetensors header, padded so that the tensors are aligned.
    fn header(&self) -> Vec<u8> {
        let mut end = 0;
        let infos = self.sources.iter().map(|(name, source)| {
            let (shape, dtype) = (source.shape(), source.stored().dtype);
            let start = end;
            end += shape.iter().product::<usize>() * dtype.size();
            let info = TensorInfo { dtype: dtype.into(), shape, data_offsets: (start, end) };
            (name.clone(), info)
        });
        let tensors = Metadata::new(None, infos.collect());
        let tensors = tensors.expect("offsets are contiguous and follow from the shapes");
        let mut header = serde_json::to_value(&tensors).expect("a header is names and numbers");
        header["__metadata__"] = json!({
            // Loaders of the transformers family refuse a file without it.
            "format": "pt",
            ORIGIN_FOUNDATION: self.plan.fingerprint,
            ORIGIN_PLAN: self.plan.hash(),
        });
        let mut header = header.to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        header
    }

    /// The stored bytes of a matrix of a merged expert; `None` when the host is copied.
    fn merged(
        &mut self,
        layer: LayerId,
        group: usize,
        part: usize,
        host: &StoredTensor,
    ) -> Result<Option<Vec<u8>>, ModelError> {
        if self.made.as_ref().is_none_or(|(made, _)| *made != layer) {
            self.made = None; // freed before the next layer's are made
            self.made = Some((layer, self.make_layer(layer)?));
        }
        let made = self.made.as_ref().and_then(|(_, experts)| experts[group].as_ref());
        let Some(ExpertWeights { gate, up, down }) = made else { return Ok(None) };
        let expert = layer.expert(self.plan.layers[&layer].groups[group].host);
        let matrix: Option<&Tensor<2>> = [gate.as_ref(), Some(up), Some(down)][part];
        let found = matrix.map_or_else(Vec::new, |matrix| matrix.dims().to_vec());
        let Some(matrix) = matrix.filter(|_| found == host.shape) else {
            return Err(ModelError::MergedShape { expert, found, expected: host.shape.clone() });
        };
        let values = matrix.to_data().try_into_vec::<f32>().expect("expert weights are f32");
        let mut bytes = Vec::new();
        if host.dtype.encode(&values, &mut bytes) {
            return Ok(Some(bytes));
        }
        Err(ModelError::MergedNotFinite { expert, dtype: host.dtype.name() })
    }

    fn make_layer(&mut self, layer: LayerId) -> Result<Vec<Option<ExpertWeights>>, ModelError> {
        let plan = &self.plan.layers[&layer];
        let made = (self.make)(layer, plan);
        let made = made.map_err(|source| ModelError::Merge { layer, source })?;
        let (found, expected) = (made.len(), plan.groups.len());
        if found == expected {
            Ok(made)
        } else {
            Err(ModelError::MergedCount { layer, found, expected })
        }
    }
}

/// Puts a layer's kept experts in the place of all of them, each by its own name.
fn replace_experts(
    sources: &mut BTreeMap<String, Source>,
    checkpoint: &Checkpoint,
    layer: LayerId,
    plan: &LayerPlan,
) {
    let block = tensors::block(layer.block);
    let path = |leaf: &str| format!("{block}.{leaf}");
    for stack in checkpoint.names.stacks {
        sources.remove(&path(stack));
    }
    let old = path(checkpoint.names.experts) + ".";
    sources.retain(|name, _| !name.starts_with(&old));
    let names = checkpoint.family.released_names();
    let experts = path(names.experts);
    let (mut gate_up, mut down) = (Vec::new(), Vec::new());
    for (group, host) in plan.hosts().into_iter().enumerate() {
        let stored = checkpoint.expert_tensors(layer.block, host);
        let parts = names.parts.iter().zip([stored.gate, stored.up, stored.down]);
        for (part, (leaf, host)) in parts.enumerate() {
            let source = Source::Expert { layer, group, part, host };
            match (names.stacked, part) {
                (true, 2) => down.push(source),
                (true, _) => gate_up.push(source),
                (false, _) => {
                    sources.insert(format!("{experts}.{group}.{leaf}.weight"), source);
                }
            }
        }
    }
    if names.stacked {
        let n_experts = plan.groups.len();
        for (name, parts) in names.stacks.into_iter().zip([gate_up, down]) {
            let [rows, columns] = parts[0].shape()[..] else {
                unreachable!("experts are matrices")
            };
            let shape = [n_experts, parts.len() / n_experts * rows, columns];
            sources.insert(path(name), Source::Stack(parts, shape));
        }
    }
}

/// Puts a layer's router, of which a rule may keep the hosts' rows alone, in the place that released checkpoints have it.
fn replace_router(
    sources: &mut BTreeMap<String, Source>,
    checkpoint: &Checkpoint,
    layer: LayerId,
    plan: &LayerPlan,
    rule: RouterRule,
) {
    let name = |names: &Names| format!("{}.{}.weight", tensors::block(layer.block), names.router);
    let old = name(checkpoint.names);
    sources.remove(&old);
    let router = checkpoint.tensor(&old).clone();
    let source = match rule {
        RouterRule::DropRows => Source::Rows(router, plan.hosts()),
        RouterRule::Redirect | RouterRule::RedirectSelected => Source::Copy(router),
    };
    sources.insert(name(checkpoint.family.released_names()), source);
}

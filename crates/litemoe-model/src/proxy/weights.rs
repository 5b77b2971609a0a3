use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use litemoe_core::{ExpertWeights, LayerId, LayerPlan, Plan, RouterRule};
use serde_json::json;

use crate::checkpoint::expert_part::{Part, Place};
use crate::checkpoint::expert_tensors::ExpertTensors;
use crate::checkpoint::origin::{ORIGIN_FOUNDATION, ORIGIN_PLAN, ORIGIN_REFIT};
use crate::checkpoint::stored::{StoredDtype, StoredTensor};
use crate::families::family::Names;
use crate::proxy::file::ProxyFile;
use crate::proxy::header::{self, HeaderEntry};
use crate::{Checkpoint, ModelError};

/// Callback that makes a layer's kept experts, in the proxy's order; `None` copies the centroid's stored bytes.
pub type MakeExperts<'a> =
    &'a mut dyn FnMut(
        LayerId,
        &LayerPlan,
    ) -> Result<Vec<Option<ExpertWeights>>, Box<dyn Error + Send + Sync>>;

/// Source of a proxy tensor's bytes.
enum Source {
    /// The foundation's bytes; quantised values in bf16.
    Copy(StoredTensor),
    /// Rows of the foundation's router weight, bias or score correction bias.
    Rows(StoredTensor, Vec<usize>),
    /// Part of a kept expert, in the number format of its layer; `centroid` is the centroid.
    Expert {
        layer: LayerId,
        group: usize,
        part: Part,
        dtype: StoredDtype,
        centroid: Arc<ExpertTensors>,
    },
    /// Parts concatenated into a fused expert tensor of this shape.
    Stack(Vec<Source>, Vec<usize>),
}

impl Source {
    fn dtype(&self) -> StoredDtype {
        match self {
            Self::Copy(tensor) | Self::Rows(tensor, _) => tensor.dtype.unquantised(),
            Self::Expert { dtype, .. } => *dtype,
            Self::Stack(parts, _) => parts[0].dtype(),
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Copy(tensor) => tensor.shape.clone(),
            Self::Rows(tensor, rows) => [&[rows.len()], &tensor.shape[1..]].concat(),
            Self::Expert { part, centroid, .. } => part.shape(centroid),
            Self::Stack(_, shape) => shape.clone(),
        }
    }

    fn bytes(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().size()
    }
}

/// Tensors of a proxy in file order. The experts of a layer, all of one dtype, are contiguous.
pub(crate) struct ProxyWeights<'a> {
    plan: &'a Plan,
    /// How the made experts were refitted, see [`Origin::refit`](crate::Origin::refit).
    refit: Option<&'a str>,
    sources: Vec<(String, Source)>,
    make: MakeExperts<'a>,
    /// Merged experts of the layer being written.
    made: Option<(LayerId, Vec<Option<ExpertWeights>>)>,
}

impl<'a> ProxyWeights<'a> {
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        plan: &'a Plan,
        refit: Option<&'a str>,
        make: MakeExperts<'a>,
    ) -> Self {
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
        // Wide dtypes first, as the safetensors writer does, so that every tensor is aligned.
        sources.sort_by_key(|(_, source)| Reverse(source.dtype().size()));
        Self { plan, refit, sources, make, made: None }
    }

    pub(crate) fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        let tensors = self.sources.iter().map(|(_, source)| source.bytes() as u64);
        self.header().len() as u64 + tensors.sum::<u64>()
    }

    pub(crate) fn write(&mut self, out: &mut ProxyFile<'_>) -> Result<(), ModelError> {
        out.bytes(&self.header())?;
        let sources = std::mem::take(&mut self.sources);
        sources.into_iter().try_for_each(|(_, source)| self.write_source(source, out))
    }

    fn write_source(&mut self, source: Source, out: &mut ProxyFile<'_>) -> Result<(), ModelError> {
        match source {
            Source::Stack(parts, _) => {
                parts.into_iter().try_for_each(|part| self.write_source(part, out))?;
            }
            Source::Copy(tensor) => tensor.read_unquantised(|bytes| out.bytes(bytes))?,
            Source::Rows(tensor, rows) => {
                for row in rows {
                    tensor.part(row).read_unquantised(|bytes| out.bytes(bytes))?;
                }
            }
            Source::Expert { layer, group, part, dtype, centroid } => {
                let id = layer.expert(self.plan.layers[&layer].groups[group].centroid);
                let stored = part.stored(&centroid).filter(|stored| stored.dtype == dtype);
                match (self.merged(layer, group)?, stored) {
                    (None, Some(stored)) => stored.read(|bytes| out.bytes(bytes))?,
                    (None, None) => out.bytes(&part.copied(id, &centroid, dtype)?)?,
                    (Some(expert), _) => out.bytes(&part.merged(id, expert, &centroid, dtype)?)?,
                }
            }
        }
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let tensors = self.sources.iter().map(|(name, source)| {
            let (shape, dtype) = (source.shape(), source.dtype());
            HeaderEntry { name: name.clone(), dtype, shape, bytes: source.bytes() }
        });
        let mut metadata = json!({
            ORIGIN_FOUNDATION: self.plan.fingerprint,
            ORIGIN_PLAN: self.plan.hash(),
        });
        if let Some(refit) = self.refit {
            metadata[ORIGIN_REFIT] = refit.into();
        }
        header::of(tensors, metadata)
    }

    /// Merged expert of a group; `None` when its centroid expert is copied.
    fn merged(
        &mut self,
        layer: LayerId,
        group: usize,
    ) -> Result<Option<&ExpertWeights>, ModelError> {
        if self.made.as_ref().is_none_or(|(made, _)| *made != layer) {
            self.made = None; // freed before the next layer's are made
            self.made = Some((layer, self.make_layer(layer)?));
        }
        Ok(self.made.as_ref().and_then(|(_, experts)| experts[group].as_ref()))
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

/// Replaces a layer's experts by the kept ones, in the layout of released checkpoints.
fn replace_experts(
    sources: &mut BTreeMap<String, Source>,
    checkpoint: &Checkpoint,
    layer: LayerId,
    plan: &LayerPlan,
) {
    for stack in checkpoint.names.stacks {
        for end in ["", "_bias", "_blocks", "_scales"] {
            sources.remove(&(checkpoint.names.path(layer, stack) + end));
        }
    }
    let old = checkpoint.names.path(layer, checkpoint.names.experts);
    sources.retain(|name, _| !name.starts_with(&old));
    let (names, dtype) = (checkpoint.family.released_names(), checkpoint.expert_dtype(layer));
    let mut stacks: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for (group, centroid) in plan.centroids().into_iter().enumerate() {
        let centroid = Arc::new(checkpoint.expert_tensors(layer, centroid));
        for (place, part) in Part::of(names, &centroid) {
            let centroid = centroid.clone();
            let source = Source::Expert { layer, group, part, dtype, centroid };
            match place {
                Place::Stack(name) => {
                    stacks.entry(names.path(layer, &name)).or_default().push(source);
                }
                Place::Alone(leaf) => {
                    let path = names.path(layer, names.experts);
                    sources.insert(format!("{path}{group}.{leaf}"), source);
                }
            }
        }
    }
    let n_experts = plan.groups.len();
    for (name, parts) in stacks {
        let of_expert = parts.len() / n_experts;
        let mut shape = [vec![n_experts], parts[0].shape()].concat();
        shape[1] *= of_expert;
        sources.insert(name, Source::Stack(parts, shape));
    }
}

/// Renames a layer's router as in released checkpoints; `drop_rows` keeps only the centroids' rows.
fn replace_router(
    sources: &mut BTreeMap<String, Source>,
    checkpoint: &Checkpoint,
    layer: LayerId,
    plan: &LayerPlan,
    rule: RouterRule,
) {
    let name = |names: &Names, leaf| format!("{}.{leaf}", names.path(layer, names.router));
    for leaf in ["weight", "bias", "e_score_correction_bias"] {
        let old = name(checkpoint.names, leaf);
        let Some(Source::Copy(router)) = sources.remove(&old) else { continue };
        let source = match rule {
            RouterRule::DropRows => Source::Rows(router, plan.centroids()),
            RouterRule::Redirect | RouterRule::RedirectSelected | RouterRule::Mask => {
                Source::Copy(router)
            }
        };
        sources.insert(name(checkpoint.family.released_names(), leaf), source);
    }
}

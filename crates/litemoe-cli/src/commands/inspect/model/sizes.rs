use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, SubAssign};

use litemoe_core::{Budget, LayerId, MoeLayer};
use litemoe_merge::{MergeError, kept_per_layer};
use litemoe_model::{Checkpoint, Part};
use serde::Serialize;

/// Number of parameters, and their bytes as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Size {
    pub(super) parameters: u64,
    pub(super) bytes: u64,
}

impl Size {
    /// The size of `kept` of `all` equal parts.
    fn share(self, kept: usize, all: usize) -> Self {
        let share = |amount: u64| amount / all as u64 * kept as u64;
        Self { parameters: share(self.parameters), bytes: share(self.bytes) }
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, less: Self) {
        self.parameters -= less.parameters;
        self.bytes -= less.bytes;
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, more: Self) {
        self.parameters += more.parameters;
        self.bytes += more.bytes;
    }
}

/// Sizes of a checkpoint, summed over its tensors.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) total: Size,
    /// As a proxy of all experts has it.
    total_in_proxy: Size,
    pub(super) parts: BTreeMap<Part, Size>,
    pub(super) dtypes: BTreeSet<&'static str>,
    blocks: BTreeSet<LayerId>,
    /// Routed experts per layer, as a proxy has them.
    experts: BTreeMap<LayerId, Size>,
    routers: BTreeMap<LayerId, Size>,
}

impl Sizes {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let mut sizes = Self::default();
        for tensor in checkpoint.stored_parts() {
            let size = Size { parameters: tensor.parameters, bytes: tensor.bytes };
            sizes.total += size;
            *sizes.parts.entry(tensor.part).or_default() += size;
            sizes.dtypes.insert(tensor.dtype);
            sizes.blocks.extend(tensor.block);
            let by_layer = match tensor.part {
                Part::Experts => &mut sizes.experts,
                Part::Routers => &mut sizes.routers,
                _ => continue,
            };
            if let Some(layer) = tensor.block {
                *by_layer.entry(layer).or_default() += size;
            }
        }
        sizes.total_in_proxy = Size { bytes: checkpoint.bytes_in_proxy(), ..sizes.total };
        for layer in checkpoint.moe_layers() {
            if let Some(experts) = sizes.experts.get_mut(&layer.id) {
                experts.bytes = layer.n_experts as u64 * layer.expert_bytes;
            }
        }
        sizes
    }

    /// Number of blocks, encoder and decoder.
    pub(super) fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn part(&self, part: Part) -> Size {
        self.parts.get(&part).copied().unwrap_or_default()
    }

    /// Tied embeddings: whether the embedding is also the LM head.
    pub(super) fn is_tied(&self) -> bool {
        !self.parts.contains_key(&Part::Head)
    }

    /// Active parameters: those that the pass of one token uses. Excludes the experts that are not selected, and the
    /// embedding, of which one row is read, unless it is also the LM head.
    pub(super) fn active_parameters(&self, layers: &[MoeLayer]) -> u64 {
        let looked_up = if self.is_tied() { 0 } else { self.part(Part::Embedding).parameters };
        let chosen =
            |layer: &MoeLayer| self.experts(layer).share(layer.top_k, layer.n_experts).parameters;
        let chosen: u64 = layers.iter().map(chosen).sum();
        self.total.parameters - looked_up - self.part(Part::Experts).parameters + chosen
    }

    /// Size of a `drop_rows` proxy that keeps as many experts as the budget allows, with their router rows.
    pub(super) fn left(&self, layers: &[MoeLayer], budget: Budget) -> Result<Left, MergeError> {
        let kept_per_layer = kept_per_layer(budget, layers)?;
        let mut left =
            Left { kept_per_layer, experts: Size::default(), total: self.total_in_proxy };
        for layer in layers {
            let kept = kept_per_layer.min(layer.n_experts);
            let removed = layer.n_experts - kept;
            left.experts += self.experts(layer).share(kept, layer.n_experts);
            left.total -= self.experts(layer).share(removed, layer.n_experts);
            left.total -= self.router(layer).share(removed, layer.n_experts);
        }
        Ok(left)
    }

    fn experts(&self, layer: &MoeLayer) -> Size {
        self.experts.get(&layer.id).copied().unwrap_or_default()
    }

    fn router(&self, layer: &MoeLayer) -> Size {
        self.routers.get(&layer.id).copied().unwrap_or_default()
    }
}

/// Size of a proxy under a budget, in which quantised tensors are in bf16.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) kept_per_layer: usize,
    pub(super) experts: Size,
    pub(super) total: Size,
}

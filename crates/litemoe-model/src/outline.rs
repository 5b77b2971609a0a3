use std::ops::Bound;

use litemoe_core::{LayerId, LinearRole, LinearSite, MoeLayer, MoeModel, Site};

use crate::Checkpoint;
use crate::checkpoint::tensors::RELATIVE_BIAS;
use crate::config::FeedForwardConfig;
use crate::families::family::Names;
use crate::layers::ExpertSites;

/// MoE layers and linear weights of a checkpoint, from its headers alone: no weights are read. They are those of the
/// loaded [`Model`](crate::Model).
#[derive(Debug, Clone)]
pub struct Outline {
    layers: Vec<MoeLayer>,
    sites: Vec<LinearSite>,
}

impl Outline {
    /// Outline of a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let blocks = checkpoint.config.blocks();
        let sites = blocks.flat_map(|(id, config)| block_sites(checkpoint, id, config));
        Self { layers: checkpoint.moe_layers().to_vec(), sites: sites.collect() }
    }
}

impl MoeModel for Outline {
    fn moe_layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &self.sites
    }
}

/// A block's matrices, and its experts.
fn block_sites(
    checkpoint: &Checkpoint,
    id: LayerId,
    feed_forward: &FeedForwardConfig,
) -> Vec<LinearSite> {
    let (names, prefix) = (checkpoint.names, checkpoint.names.path(id, ""));
    let (experts, shared) = (names.path(id, names.experts), names.path(id, names.shared));
    let moe = match feed_forward {
        FeedForwardConfig::Moe(moe) => Some(moe),
        FeedForwardConfig::Dense(_) => None,
    };
    let has_no_shared = moe.is_some_and(|moe| moe.shared == Some(0));
    let from = (Bound::Included(&*prefix), Bound::Unbounded);
    let of_block = checkpoint.tensors.range::<str, _>(from);
    let of_block = of_block.take_while(|(name, _)| name.starts_with(&prefix));
    let mut sites = Vec::new();
    for (name, tensor) in of_block {
        let (Some(path), &[d_out, d_in]) = (name.strip_suffix(".weight"), &tensor.shape[..]) else {
            continue;
        };
        let is_unused = has_no_shared && path.starts_with(&shared);
        let is_expert = moe.is_some() && path.starts_with(&experts);
        if !is_expert && !is_unused && !path.ends_with(RELATIVE_BIAS) {
            sites.push(site(checkpoint, id, path, [d_in, d_out]));
        }
    }
    if let Some(moe) = moe {
        let (family, n_experts) = (checkpoint.family, checkpoint.n_experts(id));
        let experts = ExpertSites::new(family, id, n_experts, moe, checkpoint.config.d_model);
        sites.extend(experts.linear_sites());
    }
    sites
}

fn site(checkpoint: &Checkpoint, id: LayerId, path: &str, [d_in, d_out]: [usize; 2]) -> LinearSite {
    let names = checkpoint.names;
    let of = |names: &Names| Site::new(names.path(id, names.router));
    let (released, held) = (checkpoint.family.released_names(), checkpoint.family.held_names());
    let linear =
        |site, role, parameter| LinearSite { site, role, d_in, d_out, stack: None, parameter };
    if path == names.path(id, names.router) {
        let parameter = (!held.linear_router).then(|| of(held));
        return linear(of(released), LinearRole::Router { layer: id }, parameter);
    }
    let [cross, _] = names.cross;
    let is_in = |part: &str| !part.is_empty() && path.starts_with(&names.path(id, part));
    let is_attention = is_in(names.attention) || is_in(cross);
    let role = if is_attention { LinearRole::Attention } else { LinearRole::Dense };
    linear(Site::new(path), role, None)
}

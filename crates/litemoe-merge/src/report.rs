use std::collections::BTreeMap;
use std::fmt;

use litemoe_core::{Budget, LayerId, MoeLayer};
use serde::{Deserialize, Serialize};

/// Summary of a plan: byte sizes and expert counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Byte budget: the expert bytes allowed.
    pub budget_bytes: u64,
    /// Bytes of all routed experts of the foundation.
    pub foundation_bytes: u64,
    /// Bytes of the kept experts.
    pub proxy_bytes: u64,
    /// Expert counts per layer.
    pub layers: BTreeMap<LayerId, LayerReport>,
}

/// Expert counts of one layer; `kept + merged + removed` is its number of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerReport {
    /// Kept experts, unchanged or merged with absorbed ones.
    pub kept: usize,
    /// Absorbed experts.
    pub merged: usize,
    /// Pruned experts.
    pub removed: usize,
    /// Pruned experts that were candidates for merging but matched no centroid.
    pub surplus: usize,
}

impl PlanReport {
    pub(crate) fn new(
        layers: &[MoeLayer],
        budget: Budget,
        reports: BTreeMap<LayerId, LayerReport>,
    ) -> Self {
        let bytes = |count: &dyn Fn(&MoeLayer) -> usize| {
            layers.iter().map(|layer| count(layer) as u64 * layer.expert_bytes).sum()
        };
        let foundation_bytes = bytes(&|layer| layer.n_experts);
        Self {
            budget_bytes: budget.bytes_of(foundation_bytes),
            foundation_bytes,
            proxy_bytes: bytes(&|layer| reports[&layer.id].kept),
            layers: reports,
        }
    }
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, LayerReport { kept, merged, removed, surplus }) in &self.layers {
            write!(f, "layer {layer}: {kept} kept, {merged} merged, {removed} removed")?;
            match surplus {
                0 => writeln!(f)?,
                _ => writeln!(f, " ({surplus} of them for want of a centroid)")?,
            }
        }
        let Self { proxy_bytes, foundation_bytes, budget_bytes, .. } = self;
        write!(
            f,
            "{proxy_bytes} of {foundation_bytes} expert bytes, the budget allows {budget_bytes}"
        )
    }
}

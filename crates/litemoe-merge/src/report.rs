use std::collections::BTreeMap;
use std::fmt;

use litemoe_core::{Budget, LayerId, MoeLayer};
use serde::{Deserialize, Serialize};

/// What a plan comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Bytes of experts that the budget allows.
    pub budget_bytes: u64,
    /// Bytes of all the foundation's routed experts.
    pub foundation_bytes: u64,
    /// Bytes of the experts that are kept.
    pub proxy_bytes: u64,
    /// Per layer.
    pub layers: BTreeMap<LayerId, LayerReport>,
}

/// What becomes of one layer's experts; `kept + merged + removed` is their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerReport {
    /// Kept, as they are or with others merged into them.
    pub kept: usize,
    /// Merged into a kept one.
    pub merged: usize,
    /// Dropped.
    pub removed: usize,
    /// Those of the dropped that were to be merged, but found no place with a host.
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
                _ => writeln!(f, " ({surplus} of them for want of a host)")?,
            }
        }
        let Self { proxy_bytes, foundation_bytes, budget_bytes, .. } = self;
        write!(
            f,
            "{proxy_bytes} of {foundation_bytes} expert bytes, the budget allows {budget_bytes}"
        )
    }
}

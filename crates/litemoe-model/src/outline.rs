use litemoe_core::{LinearSite, MoeLayer, MoeModel};

use crate::Checkpoint;

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
        Self { layers: checkpoint.moe_layers().to_vec(), sites: checkpoint.linear_sites() }
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

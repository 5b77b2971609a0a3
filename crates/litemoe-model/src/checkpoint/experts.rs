//! Routed experts of a checkpoint.

use burn::tensor::Device;
use litemoe_core::{ExpertId, ExpertSource, ExpertWeights, LayerId, MoeLayer};

use super::Checkpoint;
use super::expert_tensors::ExpertTensors;
use super::stored::{StoredDtype, StoredTensor};
use crate::ModelError;
use crate::config::FeedForwardConfig;

impl Checkpoint {
    /// Routed experts, readable one at a time onto a device.
    pub fn experts<'a>(&'a self, device: &Device) -> CheckpointExperts<'a> {
        CheckpointExperts { checkpoint: self, device: device.clone() }
    }

    /// Stored tensors of one expert of a block.
    pub(crate) fn expert_tensors(&self, block: LayerId, expert: usize) -> ExpertTensors {
        ExpertTensors::find(&self.tensors, self.names, block, expert)
    }

    /// Number format of a block's experts in a proxy: the narrowest that holds the values of all of them.
    pub(crate) fn expert_dtype(&self, block: LayerId) -> StoredDtype {
        let experts = (0..self.n_experts(block)).map(|expert| self.expert_tensors(block, expert));
        let widest = |expert: ExpertTensors| expert.dtypes().reduce(StoredDtype::widest);
        let dtype = experts.filter_map(widest).reduce(StoredDtype::widest);
        dtype.expect("a block of experts has one")
    }

    /// Routed experts stored in a block; 0 if dense.
    pub(crate) fn n_experts(&self, block: LayerId) -> usize {
        match (self.layer_plan(block), self.config.feed_forward_of(block)) {
            (Some(plan), _) => plan.groups.len(),
            (None, FeedForwardConfig::Moe(moe)) => moe.n_experts,
            (None, FeedForwardConfig::Dense(_)) => 0,
        }
    }

    /// Checks that every weight is finite; reads all of them.
    ///
    /// # Errors
    /// When one is not; names its tensor.
    pub(crate) fn check_finite(&self) -> Result<(), ModelError> {
        let numbers = self.tensors.values().filter(|tensor| tensor.dtype != StoredDtype::U8);
        numbers.into_iter().try_for_each(StoredTensor::check)?;
        for layer in &self.layers {
            for expert in 0..layer.n_experts {
                self.expert_tensors(layer.id, expert).check_quantised()?;
            }
        }
        Ok(())
    }
}

/// Routed experts of a checkpoint, read from the memory map onto a device on request.
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
        if layer.is_none_or(|layer| id.expert >= layer.n_experts) {
            return Err(ModelError::NoSuchExpert { dir: self.checkpoint.dir.clone(), expert: id });
        }
        self.checkpoint.expert_tensors(id.layer, id.expert).read(&self.device)
    }
}

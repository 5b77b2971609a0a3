use std::collections::BTreeMap;

use litemoe_core::{LayerId, WeightDtype};
use litemoe_kernels::weight_bytes;

use crate::checkpoint::tensors::RELATIVE_BIAS;
use crate::{Checkpoint, FeedForwardConfig, Part};

impl Checkpoint {
    /// Bytes of the weights in memory that [`Model::load_as`](crate::Model::load_as) makes, by block and part; `None`
    /// outside the blocks. Reads no weights.
    pub fn loaded_bytes(&self, dtype: WeightDtype) -> BTreeMap<(Option<LayerId>, Part), u64> {
        let always = match dtype {
            WeightDtype::Q4 => WeightDtype::Q8,
            dtype => dtype,
        };
        let mut bytes = BTreeMap::new();
        for stored in self.stored_parts() {
            let format = match stored.part {
                Part::Embedding | Part::Head => always,
                Part::Attention | Part::Dense | Part::SharedExperts => always,
                Part::Routers | Part::Norms => WeightDtype::F32,
                Part::Experts if stored.name.ends_with("bias") => WeightDtype::F32,
                Part::Experts => continue,
            };
            let path = stored.name.strip_suffix(".weight");
            let is_matrix = path.is_some_and(|path| !path.ends_with(RELATIVE_BIAS));
            *bytes.entry((stored.block, stored.part)).or_default() +=
                match self.tensor(stored.name).shape[..] {
                    [d_out, d_in] if is_matrix => weight_bytes(format, [d_out, d_in]),
                    _ => 4 * stored.parameters,
                };
        }
        for layer in self.moe_layers() {
            *bytes.entry((Some(layer.id), Part::Experts)).or_default() +=
                layer.n_experts as u64 * self.loaded_expert_bytes(layer.id, dtype);
        }
        bytes
    }

    /// Bytes of the matrices of a layer's routed expert in memory: gate and up in one, and down.
    pub fn loaded_expert_bytes(&self, id: LayerId, dtype: WeightDtype) -> u64 {
        let layer = self.moe_layers().iter().find(|layer| layer.id == id);
        let (Some(layer), FeedForwardConfig::Moe(moe)) = (layer, self.config.feed_forward_of(id))
        else {
            return 0;
        };
        let d_gate_up = if moe.network.gated { 2 * layer.d_expert } else { layer.d_expert };
        weight_bytes(dtype, [d_gate_up, layer.d_model])
            + weight_bytes(dtype, [layer.d_model, layer.d_expert])
    }
}

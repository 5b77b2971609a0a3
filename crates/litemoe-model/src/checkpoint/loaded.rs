use std::collections::BTreeMap;

use litemoe_core::{LayerId, WeightDtype};
use litemoe_kernels::weight_bytes;

use crate::{Checkpoint, FeedForwardConfig, Part};

impl Checkpoint {
    /// Bytes of the weights in memory that [`Model::load_as`](crate::Model::load_as) makes, by block and part; `None`
    /// outside the blocks. Reads no weights.
    pub fn loaded_bytes(&self, dtype: WeightDtype) -> BTreeMap<(Option<LayerId>, Part), u64> {
        let mut bytes = BTreeMap::new();
        for stored in self.stored_parts() {
            if stored.part == Part::Experts && !stored.name.ends_with("bias") {
                continue;
            }
            *bytes.entry((stored.block, stored.part)).or_default() +=
                match self.tensor(stored.name).shape[..] {
                    [d_out, d_in] if stored.name.ends_with(".weight") => {
                        weight_bytes(stored.packed_as(dtype), [d_out, d_in])
                    }
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

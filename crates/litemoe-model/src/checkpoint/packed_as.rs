use litemoe_core::WeightDtype;

use super::block_dtype::BlockDtype;
use super::parts::MXFP4;

use super::tensors::RELATIVE_BIAS;
use crate::{Part, StoredPart};

/// Format of what every token uses, with experts in a format: attention, dense networks, shared experts, embeddings, the
/// head. With 4-bit experts it has 8 bits, which costs few bytes and little speed.
pub(crate) fn always(experts: WeightDtype) -> WeightDtype {
    match experts {
        WeightDtype::Q4 => WeightDtype::Q8,
        dtype => dtype,
    }
}

impl StoredPart<'_> {
    /// Format of the tensor in a checkpoint that is quantised with experts in a format; `None` if it is none of a matrix, or
    /// not quantised.
    pub(crate) fn blocks_of(&self, shape: &[usize], experts: BlockDtype) -> Option<BlockDtype> {
        let is_matrix = match shape.len() {
            2 => self.name.ends_with(".weight"),
            // Fused experts.
            3 => self.part == Part::Experts && self.dtype != MXFP4,
            _ => false,
        };
        let is_filled = shape.iter().all(|&size| size > 0);
        BlockDtype::of(self.packed_as(experts.weights())).filter(|_| is_matrix && is_filled)
    }

    /// Format of a matrix in memory, with experts in a format. Routers and relative position biases are in f32.
    pub(crate) fn packed_as(&self, experts: WeightDtype) -> WeightDtype {
        match self.part {
            Part::Routers | Part::Norms => WeightDtype::F32,
            _ if self.name.contains(RELATIVE_BIAS) => WeightDtype::F32,
            Part::Experts => experts,
            Part::Embedding | Part::Head => always(experts),
            Part::Attention | Part::Dense | Part::SharedExperts => always(experts),
        }
    }
}

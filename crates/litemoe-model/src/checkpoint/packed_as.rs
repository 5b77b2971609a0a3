use litemoe_core::WeightDtype;

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

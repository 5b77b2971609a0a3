use burn::tensor::{Int, Tensor};
use litemoe_kernels::LinearWeight;

/// Token embedding of a stack, `[vocab, d_model]`.
#[derive(Debug)]
pub(crate) enum EmbeddingTable {
    Dense(Tensor<2>),
    Packed(LinearWeight),
}

impl EmbeddingTable {
    /// `[n]` → `[n, d_model]`
    pub(crate) fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(table) => table.clone().select(0, ids),
            Self::Packed(table) => table.stored_rows(ids),
        }
    }
}

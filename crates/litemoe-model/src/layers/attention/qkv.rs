use std::ops::Range;

use burn::tensor::Tensor;

/// Queries (already scaled), keys and values, `[batch, seq, heads, width]` each.
pub(crate) struct Qkv {
    pub(crate) q: Tensor<4>,
    pub(crate) k: Tensor<4>,
    pub(crate) v: Tensor<4>,
}

impl Qkv {
    /// Slice of the tokens of a packed grid.
    pub(super) fn columns(&self, tokens: Range<usize>) -> Self {
        let of = |all: &Tensor<4>| all.clone().narrow(1, tokens.start, tokens.len());
        Self { q: of(&self.q), k: of(&self.k), v: of(&self.v) }
    }
}

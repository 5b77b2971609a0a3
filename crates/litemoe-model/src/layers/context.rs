use burn::tensor::Tensor;
use litemoe_core::{Adapters, ByTokens, CacheDtype, Packing};

use crate::layers::positions::Positions;

/// Context of a layer in a pass: batch layout, positions and adapters.
#[derive(Clone, Copy)]
pub(crate) struct LayerContext<'a> {
    pub(crate) packing: &'a Packing,
    pub(crate) positions: &'a Positions,
    pub(crate) adapters: &'a ByTokens<'a, Adapters>,
    /// Number format that keys and values are rounded to, as in the KV cache; f32 with autodiff.
    pub(crate) cache_dtype: CacheDtype,
}

impl LayerContext<'_> {
    /// Splits packed tokens into heads on the padded grid, `[rows, columns, heads, width]`.
    pub(crate) fn heads(&self, x: Tensor<2>, width: usize) -> Tensor<4> {
        let (heads, [rows, columns]) = (x.dims()[1] / width, self.packing.grid());
        self.packing.pad(x).reshape([rows, columns, heads, width])
    }
}

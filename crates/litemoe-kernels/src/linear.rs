use burn::tensor::{Device, Int, Tensor};
use litemoe_core::WeightDtype;

use crate::weight::Weight;
use crate::{RangeError, StoredRows};

/// Frozen linear layer, `y = x·W`, with the weight packed once.
///
/// All products with frozen weights outside the experts use this type.
#[derive(Debug, Clone)]
pub struct LinearWeight {
    weight: Weight,
}

impl LinearWeight {
    /// Packs a weight in the checkpoint layout, `[d_out, d_in]`.
    ///
    /// # Panics
    /// When the device has no such format, see [`crate::can_pack`], or the format cannot hold a value.
    pub fn from_stored(weight: Tensor<2>, dtype: WeightDtype) -> Self {
        Self { weight: Weight::pack(weight, dtype) }
    }

    /// As [`Self::from_stored`], without a copy of the stored weight where it is packed.
    ///
    /// # Errors
    /// When the format cannot hold a value.
    ///
    /// # Panics
    /// When the device has no such format.
    pub fn from_rows(
        stored: &dyn StoredRows,
        dtype: WeightDtype,
        device: &Device,
    ) -> Result<Self, RangeError> {
        Ok(Self { weight: Weight::of_rows(stored, dtype, device)? })
    }

    /// Linear projection, `x·W`; differentiable with respect to `x`.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - output: `[tokens, d_out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.weight.product(x)
    }

    /// Rows of the weight in the checkpoint layout: the embedding lookup of a head with tied embeddings.
    ///
    /// # Panics
    /// When there is no such row.
    ///
    /// # Shapes
    /// - `indices`: `[n]`
    /// - output: `[n, d_in]`
    pub fn stored_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        self.weight.stored_rows(indices)
    }

    /// Input width.
    pub fn d_in(&self) -> usize {
        self.weight.d_in()
    }

    /// Output width.
    pub fn d_out(&self) -> usize {
        self.weight.d_out()
    }

    /// Device of the weight.
    pub fn device(&self) -> Device {
        self.weight.device()
    }

    /// The weight in the checkpoint layout, `[d_out, d_in]`: a view of an f32 weight, a dequantised copy of another.
    pub fn stored(&self) -> Tensor<2> {
        self.weight.stored()
    }

    /// The rows of a quantised weight in [blocks](crate::block_bytes), from which [`Self::from_rows`] makes the same weight;
    /// `None` for other formats.
    pub fn stored_blocks(&self) -> Option<Vec<u8>> {
        self.weight.stored_blocks()
    }
}

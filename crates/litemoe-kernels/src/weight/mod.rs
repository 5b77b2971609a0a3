//! Frozen weight of a product: a tensor, or a packed matrix on the CPU.

mod bytes;
#[cfg(feature = "flex")]
mod op;
#[cfg(feature = "flex")]
mod packed;

use burn::tensor::{Device, Int, Tensor, s};
use litemoe_core::WeightDtype;

#[cfg(feature = "flex")]
use crate::matrix::{Matrix, PackedFormat};
use crate::stored_rows::{self, Values};
use crate::{RangeError, StoredRows, pack};
#[cfg(feature = "flex")]
pub(crate) use packed::PackedWeight;

pub use bytes::weight_bytes;

/// Whether weights on `device` can be kept in this format. f32 always can, the others on the CPU (feature `flex`).
pub fn can_pack(device: &Device, dtype: WeightDtype) -> bool {
    dtype == WeightDtype::F32 || crate::primitive::is_host(device)
}

/// Weight `[d_out, d_in]` in the checkpoint layout, kept as a product needs it.
#[derive(Debug, Clone)]
pub(crate) enum Weight {
    /// `[d_in, d_out]`, contiguous.
    Dense(Tensor<2>),
    #[cfg(feature = "flex")]
    Packed(PackedWeight),
}

impl Weight {
    /// # Panics
    /// When the device has no such format, see [`can_pack`], or the format cannot hold a value.
    pub(crate) fn pack(stored: Tensor<2>, dtype: WeightDtype) -> Self {
        if dtype == WeightDtype::F32 {
            return Self::Dense(pack::transposed(stored));
        }
        let (device, shape) = (stored.device(), stored.dims());
        let data = stored.into_data().convert::<f32>();
        let values = data.as_slice::<f32>().expect("converted to f32");
        let packed = Self::of_rows(&Values::new(values, shape), dtype, &device);
        packed.unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Self::pack`], without a copy of the stored weight where it is packed.
    ///
    /// # Errors
    /// When the format cannot hold a value.
    pub(crate) fn of_rows(
        stored: &dyn StoredRows,
        dtype: WeightDtype,
        device: &Device,
    ) -> Result<Self, RangeError> {
        assert!(can_pack(device, dtype), "{dtype} weights need the CPU");
        #[cfg(feature = "flex")]
        if let Some(format) = PackedFormat::of(dtype) {
            return Ok(Self::Packed(PackedWeight::new(stored, format, device)?));
        }
        Ok(Self::Dense(pack::transposed(stored_rows::tensor(stored, device))))
    }

    /// `x·W`, differentiable with respect to `x`: `[n, d_in]` → `[n, d_out]`.
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => x.matmul(weight.clone()),
            #[cfg(feature = "flex")]
            Self::Packed(weight) => op::product(x, weight.clone()),
        }
    }

    /// `grad·Wᵀ`, the gradient of the input, not differentiable: `[n, d_out]` → `[n, d_in]`.
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    pub(crate) fn input_gradient(&self, grad: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => grad.matmul(weight.clone().transpose()),
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.input_gradient(grad),
        }
    }

    /// Rows in the checkpoint layout: `[n]` → `[n, d_in]`.
    pub(crate) fn stored_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => {
                let [n] = indices.dims();
                let rows = weight.clone().select(1, indices).transpose();
                // Contiguous, as rows of a stored embedding are: sums over them are then equal bit for bit.
                Tensor::zeros([n, self.d_in()], (&self.device(), rows.dtype()))
                    .slice_assign(s![.., ..], rows)
            }
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.stored_rows(indices),
        }
    }

    /// `[d_out, d_in]`: a view of a dense weight, a dequantised copy of a packed one.
    pub(crate) fn stored(&self) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone().transpose(),
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.stored(),
        }
    }

    /// Rows in blocks of a quantised format; `None` for other formats.
    pub(crate) fn stored_blocks(&self) -> Option<Vec<u8>> {
        match self {
            Self::Dense(_) => None,
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.matrix().blocks(),
        }
    }

    /// `None` for a dense weight.
    #[cfg(feature = "flex")]
    pub(crate) fn matrix(&self) -> Option<&Matrix> {
        match self {
            Self::Dense(_) => None,
            Self::Packed(weight) => Some(weight.matrix()),
        }
    }

    pub(crate) fn d_in(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.dims()[0],
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.d_in(),
        }
    }

    pub(crate) fn d_out(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.dims()[1],
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.d_out(),
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Dense(weight) => weight.device(),
            #[cfg(feature = "flex")]
            Self::Packed(weight) => weight.device(),
        }
    }
}

use burn::tensor::{Device, Int, Tensor, s};

use crate::pack;

/// Frozen linear layer, `y = x·W`, with the weight packed once for GEMM.
///
/// All products with frozen weights outside the experts use this type.
#[derive(Debug, Clone)]
pub struct LinearWeight {
    weight: Tensor<2>,
}

impl LinearWeight {
    /// Packs a weight in the checkpoint layout, `[d_out, d_in]`.
    pub fn from_stored(weight: Tensor<2>) -> Self {
        Self { weight: pack::transposed(weight) }
    }

    /// Linear projection, `x·W`.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - output: `[tokens, d_out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone())
    }

    /// Rows of the weight in the checkpoint layout: the embedding lookup of a head with tied embeddings.
    ///
    /// # Shapes
    /// - `indices`: `[n]`
    /// - output: `[n, d_in]`
    pub fn stored_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        let [n] = indices.dims();
        let rows = self.weight.clone().select(1, indices).transpose();
        // Contiguous, as rows of a stored embedding are: sums over them are then equal bit for bit.
        Tensor::zeros([n, self.d_in()], (&self.device(), rows.dtype()))
            .slice_assign(s![.., ..], rows)
    }

    /// Input width.
    pub fn d_in(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Output width.
    pub fn d_out(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Device of the weight.
    pub fn device(&self) -> Device {
        self.weight.device()
    }

    /// The weight in the checkpoint layout, `[d_out, d_in]`: a view without a copy.
    pub fn stored(&self) -> Tensor<2> {
        self.weight.clone().transpose()
    }
}

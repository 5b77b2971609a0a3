use burn::tensor::{Device, Int, Tensor, s};

use crate::pack;

/// A frozen linear weight, packed once for the matrix product: `y = x·W`.
///
/// Every product with a frozen weight outside the experts goes through this type.
#[derive(Debug, Clone)]
pub struct LinearWeight {
    weight: Tensor<2>,
}

impl LinearWeight {
    /// Packs a weight in the layout of checkpoints, `[d_out, d_in]`.
    pub fn from_stored(weight: Tensor<2>) -> Self {
        Self { weight: pack::transposed(weight) }
    }

    /// Multiplies every row of `x` by the weight.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - output: `[tokens, d_out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone())
    }

    /// Rows of the weight as checkpoints store it: a head that is the embedding too looks tokens up by them.
    ///
    /// # Shapes
    /// - `indices`: `[n]`
    /// - output: `[n, d_in]`
    pub fn stored_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        let [n] = indices.dims();
        let rows = self.weight.clone().select(1, indices).transpose();
        // Contiguous, as rows of a stored table are: sums over them come out the same to the last bit.
        Tensor::zeros([n, self.d_in()], (&self.device(), rows.dtype()))
            .slice_assign(s![.., ..], rows)
    }

    /// Width of the input.
    pub fn d_in(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Width of the output.
    pub fn d_out(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Where the weight lives.
    pub fn device(&self) -> Device {
        self.weight.device()
    }

    /// The weight as checkpoints store it: a `[d_out, d_in]` view that copies nothing.
    pub fn stored(&self) -> Tensor<2> {
        self.weight.clone().transpose()
    }
}

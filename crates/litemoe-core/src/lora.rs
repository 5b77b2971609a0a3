use burn::tensor::Tensor;

/// LoRA (arXiv 2106.09685): a low-rank update of a frozen weight W, `x·W + scale · (x·A)·B`.
///
/// Both matrices are stored as they multiply, `[in, out]`: the transposes of PEFT's.
#[derive(Debug, Clone)]
pub struct Lora {
    /// A, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// B, `[rank, d_out]`.
    pub b: Tensor<2>,
    /// α/r, or α/√r.
    pub scale: f32,
}

impl Lora {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.dims()[1]
    }

    /// What the update adds to the output for `x` `[tokens, d_in]`: `[tokens, d_out]`.
    pub fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.a.clone()).matmul(self.b.clone()).mul_scalar(self.scale)
    }
}

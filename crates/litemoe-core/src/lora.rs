use burn::tensor::Tensor;

/// LoRA ("LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685): a low-rank update of a frozen weight
/// W, `x·W + scale · (x·A)·B`.
///
/// A and B are stored as `[in, out]`, the transposes of PEFT's.
#[derive(Debug, Clone)]
pub struct Lora {
    /// A, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// B, `[rank, d_out]`.
    pub b: Tensor<2>,
    /// Scale: α/r, or α/√r (rank-stabilised).
    pub scale: f32,
}

impl Lora {
    /// Rank r.
    pub fn rank(&self) -> usize {
        self.a.dims()[1]
    }

    /// Output delta, `scale · (x·A)·B`.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - output: `[tokens, d_out]`
    pub fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.a.clone()).mul_scalar(self.scale).matmul(self.b.clone())
    }
}

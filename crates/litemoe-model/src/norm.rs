use burn::tensor::Tensor;

/// Root-mean-square normalisation (arXiv 1910.07467): `x / √(mean(x²) + ε) · w`.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    weight: Tensor<2>,
    eps: f64,
}

impl RmsNorm {
    /// `weight` has a value per column.
    pub(crate) fn new(weight: Tensor<1>, eps: f64) -> Self {
        Self { weight: weight.unsqueeze_dim(0), eps }
    }

    /// Normalises each row of `[n, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mean = x.clone().square().mean_dim(1);
        x / mean.add_scalar(self.eps).sqrt() * self.weight.clone()
    }
}

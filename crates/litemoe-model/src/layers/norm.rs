use burn::tensor::Tensor;

/// RMSNorm, `x / √(mean(x²) + ε) · w` (Root Mean Square Layer Normalization, arXiv 1910.07467); with a bias, LayerNorm,
/// `(x − mean) / √(variance + ε) · w + b` (Layer Normalization, arXiv 1607.06450).
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
    eps: f64,
}

impl Norm {
    /// RMSNorm; `weight` is `[width]`.
    pub(crate) fn rms(weight: Tensor<1>, eps: f64) -> Self {
        Self { weight: weight.unsqueeze_dim(0), bias: None, eps }
    }

    /// LayerNorm; `weight` and `bias` are `[width]`.
    pub(crate) fn layer(weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Self {
        Self { bias: Some(bias.unsqueeze_dim(0)), ..Self::rms(weight, eps) }
    }

    /// Weight `[1, width]` and ε of an RMSNorm.
    pub(crate) fn as_rms(&self) -> Option<(&Tensor<2>, f64)> {
        self.bias.is_none().then_some((&self.weight, self.eps))
    }

    /// Normalises each row of `[n, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let Some(bias) = &self.bias else { return unit_rms(x, self.eps) * self.weight.clone() };
        let centred = x.clone() - x.mean_dim(1);
        unit_rms(centred, self.eps) * self.weight.clone() + bias.clone()
    }
}

/// RMSNorm without weights: `x / √(mean(x²) + ε)` over the last dimension.
pub(crate) fn unit_rms<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let mean = x.clone().square().mean_dim(D - 1);
    x / mean.add_scalar(eps).sqrt()
}

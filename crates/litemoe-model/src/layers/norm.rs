use burn::tensor::Tensor;

/// A normalisation of rows: by their root mean square (arXiv 1910.07467), `x / √(mean(x²) + ε) · w`; with a bias, by mean and
/// variance (arXiv 1607.06450), `(x − mean) / √(variance + ε) · w + b`.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
    eps: f64,
}

impl Norm {
    /// `weight` has a value per column.
    pub(crate) fn rms(weight: Tensor<1>, eps: f64) -> Self {
        Self { weight: weight.unsqueeze_dim(0), bias: None, eps }
    }

    /// `weight` and `bias` have a value per column.
    pub(crate) fn layer(weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Self {
        Self { bias: Some(bias.unsqueeze_dim(0)), ..Self::rms(weight, eps) }
    }

    /// Normalises each row of `[n, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let Some(bias) = &self.bias else { return unit_rms(x, self.eps) * self.weight.clone() };
        let centred = x.clone() - x.mean_dim(1);
        unit_rms(centred, self.eps) * self.weight.clone() + bias.clone()
    }
}

/// `x / √(mean(x²) + ε)` over the last dimension.
pub(crate) fn unit_rms<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let mean = x.clone().square().mean_dim(D - 1);
    x / mean.add_scalar(eps).sqrt()
}

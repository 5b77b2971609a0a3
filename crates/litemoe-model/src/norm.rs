use burn::tensor::Tensor;

/// A normalisation of rows.
#[derive(Debug, Clone)]
pub(crate) enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    /// Normalises each row of `[n, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
        }
    }
}

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
        unit_rms(x, self.eps) * self.weight.clone()
    }
}

/// `x / √(mean(x²) + ε)` over the last dimension.
pub(crate) fn unit_rms<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let mean = x.clone().square().mean_dim(D - 1);
    x / mean.add_scalar(eps).sqrt()
}

/// Layer normalisation (arXiv 1607.06450): `(x − mean) / √(variance + ε) · w + b`.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor<2>,
    bias: Tensor<2>,
    eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias` have a value per column.
    pub(crate) fn new(weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Self {
        Self { weight: weight.unsqueeze_dim(0), bias: bias.unsqueeze_dim(0), eps }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        unit_rms(centred, self.eps) * self.weight.clone() + self.bias.clone()
    }
}

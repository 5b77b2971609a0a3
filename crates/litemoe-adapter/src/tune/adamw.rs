use burn::tensor::Tensor;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Running means of a matrix's gradient and of its square.
#[derive(Clone)]
pub(super) struct Moments {
    pub(super) mean: Tensor<2>,
    pub(super) square: Tensor<2>,
}

impl Moments {
    /// Of a matrix that has had no step.
    pub(super) fn zeros(weight: &Tensor<2>) -> Self {
        let zeros = weight.zeros_like();
        Self { mean: zeros.clone(), square: zeros }
    }
}

/// One step of AdamW (arXiv 1711.05101) in the order of PyTorch's operations.
#[derive(Clone, Copy)]
pub(super) struct AdamW {
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
    /// Counted from 1.
    pub(super) step: usize,
}

impl AdamW {
    /// The weight after the step; the moments become those after it.
    pub(super) fn update(
        &self,
        weight: Tensor<2>,
        gradient: Tensor<2>,
        moments: &mut Moments,
    ) -> Tensor<2> {
        let (mean, square) = (moments.mean.clone(), moments.square.clone());
        moments.mean = mean.clone() + (gradient.clone() - mean).mul_scalar(1.0 - BETA1);
        moments.square =
            square.mul_scalar(BETA2) + (gradient.clone() * gradient).mul_scalar(1.0 - BETA2);
        let denominator = (moments.square.clone().sqrt().div_scalar(self.correction(BETA2).sqrt()))
            .add_scalar(EPSILON);
        let decayed = match self.weight_decay {
            0.0 => weight,
            decay => weight.mul_scalar(1.0 - self.lr * decay),
        };
        let step_size = self.lr / self.correction(BETA1);
        decayed - (moments.mean.clone() / denominator).mul_scalar(step_size)
    }

    /// 1 − βᵗ: how much of a mean that started at zero there is after t steps.
    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powf(self.step as f64)
    }
}

use burn::tensor::Tensor;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// AdamW moments of a matrix: running means of the gradient and of its square.
#[derive(Clone)]
pub(super) struct Moments {
    pub(super) mean: Tensor<2>,
    pub(super) square: Tensor<2>,
}

impl Moments {
    /// Moments before the first step.
    pub(super) fn zeros(weight: &Tensor<2>) -> Self {
        let zeros = weight.zeros_like();
        Self { mean: zeros.clone(), square: zeros }
    }
}

/// One AdamW step ("Decoupled Weight Decay Regularization", arXiv 1711.05101), with PyTorch's order of operations.
#[derive(Clone, Copy)]
pub(super) struct AdamW {
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
    /// Step, counted from 1.
    pub(super) step: usize,
}

impl AdamW {
    /// Returns the updated weight and updates the moments.
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

    /// Bias correction 1 − βᵗ of a running mean that starts at zero, after t steps.
    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powf(self.step as f64)
    }
}

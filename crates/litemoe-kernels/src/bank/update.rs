use burn::tensor::Tensor;

/// A low-rank update beside one frozen matrix: `x·W + scale · (x·A)·B` (LoRA, arXiv 2106.09685).
#[derive(Debug, Clone)]
pub struct LowRank {
    /// A as it multiplies, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// B as it multiplies, `[rank, d_out]`.
    pub b: Tensor<2>,
    /// What the product is multiplied by.
    pub scale: f32,
}

/// The updates beside one expert's matrices.
#[derive(Debug, Clone, Default)]
pub struct ExpertUpdate {
    /// Of the gate; none in ungated experts.
    pub gate: Option<LowRank>,
    /// Of up.
    pub up: Option<LowRank>,
    /// Of down.
    pub down: Option<LowRank>,
}

impl LowRank {
    /// What it adds to the output: `[n, d_in]` → `[n, d_out]`.
    pub(super) fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.a.clone()).matmul(self.b.clone()).mul_scalar(self.scale)
    }

    /// What it adds to the gradient by its input for that by its output: `[n, d_out]` → `[n, d_in]`.
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    pub(super) fn delta_back(&self, grad: Tensor<2>) -> Tensor<2> {
        let inner = grad.matmul(self.b.clone().transpose());
        inner.matmul(self.a.clone().transpose()).mul_scalar(self.scale)
    }

    /// The gradients by A and B for its input and the gradient by its output.
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    pub(super) fn gradients(&self, x: &Tensor<2>, grad: Tensor<2>) -> [Tensor<2>; 2] {
        let grad = grad.mul_scalar(self.scale);
        let a = x.clone().transpose().matmul(grad.clone().matmul(self.b.clone().transpose()));
        [a, x.clone().matmul(self.a.clone()).transpose().matmul(grad)]
    }
}

impl ExpertUpdate {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    /// What there is of gate, up and down.
    pub(super) fn parts(&self) -> impl Iterator<Item = &LowRank> {
        self.gate.iter().chain(&self.up).chain(&self.down)
    }

    /// Whether a gradient may be asked of it.
    pub(super) fn is_tracked(&self) -> bool {
        self.parts().any(|part| part.a.device().is_autodiff() || part.b.device().is_autodiff())
    }

    /// Adds the updates of gate and up, side by side in a gated expert, to the products `[n, …]` of `x` `[n, d_model]`.
    ///
    /// # Panics
    /// When an ungated expert's gate has an update.
    pub(super) fn beside_gate_up(
        &self,
        x: &Tensor<2>,
        products: Tensor<2>,
        gated: bool,
    ) -> Tensor<2> {
        let delta = |part: &Option<LowRank>| part.as_ref().map(|part| part.delta(x.clone()));
        let [gate, up] = [delta(&self.gate), delta(&self.up)];
        assert!(gated || gate.is_none(), "an update beside the gate of an ungated expert");
        let both = match (gate, up) {
            (None, None) => return products,
            (None, Some(up)) if !gated => return products + up,
            (Some(gate), Some(up)) => [gate, up],
            (Some(gate), None) => [gate.clone(), gate.zeros_like()],
            (None, Some(up)) => [up.zeros_like(), up],
        };
        products + Tensor::cat(both.to_vec(), 1)
    }

    /// Adds the update of down to the outputs `[n, d_model]` for what went in, `[n, d_expert]`.
    pub(super) fn beside_down(&self, inner: Tensor<2>, outputs: Tensor<2>) -> Tensor<2> {
        match &self.down {
            Some(down) => outputs + down.delta(inner),
            None => outputs,
        }
    }
}

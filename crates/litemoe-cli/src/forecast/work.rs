use litemoe_adapter::TuneOptions;

use super::model_size::ModelSize;
use super::rows::Lengths;

/// Floating-point operations of a model's passes: two per weight and token, and those of attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a>(pub(crate) &'a ModelSize);

impl Work<'_> {
    /// A forward pass of `tokens` tokens in rows of the mean length, with the logits of `targets` tokens.
    fn forward(self, tokens: f64, targets: f64, length: f64) -> f64 {
        let blocks: f64 = self.0.blocks.iter().map(|block| block.active()).sum();
        // Scores and their products with the values, causal or not.
        let attention = 2.0 * self.0.d_queries * length * self.0.blocks.len() as f64;
        2.0 * (tokens * (blocks + attention) + targets * self.0.vocab * self.0.d_model)
    }

    /// A prompt of `tokens` tokens, with the logits after it.
    pub(crate) fn prefill(self, tokens: usize) -> f64 {
        self.forward(tokens as f64, 1.0, tokens as f64)
    }

    /// A forward pass of all rows without the head.
    pub(crate) fn score(self, rows: &Lengths) -> f64 {
        self.forward(rows.tokens(), 0.0, rows.mean())
    }

    /// A forward pass of all rows with the logits of the tokens in the loss.
    pub(crate) fn eval(self, rows: &Lengths) -> f64 {
        self.forward(rows.tokens(), rows.targets(), rows.mean())
    }

    /// Forward and backward passes of `n_rows` rows. The backward pass computes gradients of activations and of the
    /// adapter's matrices, not of the frozen weights; with its small operations it counts as two forward passes.
    fn tune(self, rows: &Lengths, n_rows: f64, recompute: bool) -> f64 {
        let passes = if recompute { 4.0 } else { 3.0 };
        passes * n_rows / rows.n_rows() * self.eval(rows)
    }

    /// A tuning run: its steps, and the validations between them.
    pub(crate) fn tuning(
        self,
        options: &TuneOptions,
        train: &Lengths,
        validation: &Lengths,
    ) -> f64 {
        let n_rows = options.steps as f64 * options.batch as f64;
        let validations = options.n_validations() as f64 * self.eval(validation);
        self.tune(train, n_rows, options.recompute) + validations
    }

    /// Sums and solutions of a refit with `kept` experts per layer.
    pub(crate) fn refit(self, rows: &Lengths, kept: f64) -> f64 {
        let layers = self.0.blocks.iter().map(|block| {
            let (n, d_model) = (kept.min(block.n_experts) * block.d_expert, self.0.d_model);
            let seen = block.top_k * block.d_expert;
            // ZᵀZ and Zᵀr of the experts that a token reaches, then Cholesky and the right-hand sides.
            2.0 * rows.tokens() * seen * (seen + 2.0 * d_model)
                + n * n * n / 3.0
                + 2.0 * n * n * d_model
        });
        layers.sum()
    }
}

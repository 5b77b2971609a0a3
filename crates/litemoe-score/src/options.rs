use litemoe_core::{BatchLimits, SimilarityKind};

/// Options of expert scoring.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreOptions {
    /// Batch size: maximum rows per batch, at least 1. It affects the scores only by rounding.
    pub batch: usize,
    /// Maximum tokens per batch, padding counted; a longer row is a batch of its own.
    pub batch_tokens: usize,
    /// Maximum tokens whose hidden states are held between blocks, or one batch if that is larger. More rows are
    /// processed in rounds, each a pass through the model.
    pub held_tokens: usize,
    /// Seed of the `random` control.
    pub seed: u64,
    /// Expert similarities to measure in the same pass.
    pub similarities: Vec<SimilarityKind>,
    /// κ of the expert affinity, in [0, 1].
    pub kappa: f64,
}

impl Default for ScoreOptions {
    /// Batches of 16 rows and 1024 tokens, 32 768 tokens held, seed 0, no similarity, κ = .2 (LiteMoE §3.3).
    fn default() -> Self {
        Self {
            batch: 16,
            batch_tokens: 1024,
            held_tokens: 1 << 15,
            seed: 0,
            similarities: Vec::new(),
            kappa: 0.2,
        }
    }
}

impl ScoreOptions {
    pub(crate) fn limits(&self) -> BatchLimits {
        BatchLimits { rows: self.batch, tokens: self.batch_tokens }
    }
}

use litemoe_core::{BatchLimits, SimilarityKind};

/// How experts are scored.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreOptions {
    /// Most rows that go through a block together, at least 1. The scores do not depend on it but for rounding.
    pub batch: usize,
    /// Most tokens that do, padding counted; a row that is longer goes alone.
    pub batch_tokens: usize,
    /// Tokens whose hidden states are kept while the others go through a block, or one batch; with more rows than that
    /// the model is gone through again.
    pub held_tokens: usize,
    /// The seed of the random control.
    pub seed: u64,
    /// The similarities to measure in the same pass.
    pub similarities: Vec<SimilarityKind>,
    /// κ of the affinity, in [0, 1].
    pub kappa: f64,
}

impl Default for ScoreOptions {
    /// At once 16 rows and 1024 tokens, 32 768 tokens held, seed 0, no similarity, κ = .2 (LiteMoE §3.3).
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

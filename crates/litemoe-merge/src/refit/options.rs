/// Options of the refit.
#[derive(Debug, Clone, PartialEq)]
pub struct RefitOptions {
    /// Rank of the change; `None` for full rank.
    pub rank: Option<usize>,
    /// Ridge parameter: λ as a multiple of the mean diagonal of ZᵀZ, above 0.
    pub ridge: f64,
    /// Batch size: maximum rows per batch, at least 1.
    pub batch: usize,
    /// Maximum tokens per batch, padding counted; a longer row is a batch of its own.
    pub batch_tokens: usize,
    /// Maximum bytes of inner activations held between measuring a layer and applying its change. For further batches
    /// the proxy's block is run a second time.
    pub held_bytes: usize,
    /// Maximum bytes of a layer's sums. They grow with the square of its kept neurons, and the work with the cube.
    pub max_sum_bytes: usize,
}

impl Default for RefitOptions {
    /// Full rank, λ = .01 of the mean diagonal, batches of 16 rows and 1024 tokens, 128 MiB held, sums of at most 2 GiB.
    fn default() -> Self {
        Self {
            rank: None,
            ridge: 0.01,
            batch: 16,
            batch_tokens: 1024,
            held_bytes: 128 << 20,
            max_sum_bytes: 2 << 30,
        }
    }
}

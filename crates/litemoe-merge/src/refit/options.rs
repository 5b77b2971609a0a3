/// How a proxy is refitted.
#[derive(Debug, Clone, PartialEq)]
pub struct RefitOptions {
    /// The rank of the change; `None` for any rank.
    pub rank: Option<usize>,
    /// λ as a share of the mean diagonal of ZᵀZ, above 0.
    pub ridge: f64,
    /// Most rows that go through a block together, at least 1.
    pub batch: usize,
    /// Most tokens that do, padding counted; a row that is longer goes alone.
    pub batch_tokens: usize,
    /// Bytes of inner activations kept from when a layer is measured to when its change is applied; of batches beyond them the
    /// proxy's block is run a second time.
    pub held_bytes: usize,
    /// Most bytes of a layer's sums; they grow with the square of its kept neurons, and the work with the cube.
    pub max_sum_bytes: usize,
}

impl Default for RefitOptions {
    /// Any rank, λ = .01 of the mean diagonal, at once 16 rows and 1024 tokens, 48 MiB held, sums of 2 GiB at most.
    fn default() -> Self {
        Self {
            rank: None,
            ridge: 0.01,
            batch: 16,
            batch_tokens: 1024,
            held_bytes: 48 << 20,
            max_sum_bytes: 2 << 30,
        }
    }
}

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::{LayerId, Packing, Stack};

/// Router noise: normal noise on the router logits during tuning, i.e. noisy top-k gating ("Outrageously Large Neural
/// Networks: The Sparsely-Gated Mixture-of-Experts Layer", arXiv 1701.06538) with one standard deviation for all
/// experts.
///
/// An adapter tuned on a proxy's few experts runs with other experts on the foundation; the noise trains it not to
/// depend on which experts a token is routed to. A sample depends only on the row's seed, the layer and the token's
/// position in the row, not on batching or on how often a block runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterNoise {
    /// Standard deviation of the noise on the logits, finite and at least 0.
    pub std: f32,
    /// One seed per row of the batch.
    pub seeds: Vec<u64>,
}

impl RouterNoise {
    /// Samples the noise of one layer, `[tokens, n_experts]`.
    ///
    /// # Panics
    /// When there are fewer seeds than rows, or `std` is not finite.
    pub fn sample(
        &self,
        layer: LayerId,
        packing: &Packing,
        n_experts: usize,
        device: &Device,
    ) -> Tensor<2> {
        let normal = Normal::new(0.0, self.std).expect("the deviation is finite");
        assert!(self.seeds.len() >= packing.batch(), "every row has a seed");
        let mut values = Vec::with_capacity(packing.tokens() * n_experts);
        for (&seed, &len) in self.seeds.iter().zip(packing.row_lens()) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream(layer));
            values.extend(normal.sample_iter(rng).take(len * n_experts));
        }
        Tensor::from_data(TensorData::new(values, [packing.tokens(), n_experts]), device)
    }
}

/// Random stream of the layer.
fn stream(layer: LayerId) -> u64 {
    let stack = match layer.stack {
        Stack::Decoder => 0,
        Stack::Encoder => 1,
    };
    2 * layer.block as u64 + stack
}

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::{LayerId, Packing, Stack};

/// Normal noise on router logits while an adapter is tuned: noisy top-k gating (Outrageously Large Neural Networks,
/// arXiv 1701.06538) with one standard deviation for all experts.
///
/// An adapter that was tuned on a proxy's few experts meets other ones on the foundation; under noise it learns not to
/// lean on which experts a token goes to. What is drawn depends on the row, the layer and the token's place alone:
/// however a batch is cut, and however often a block runs, the noise is the same.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterNoise {
    /// Standard deviation in logits, finite and at least 0.
    pub std: f32,
    /// One seed for each row of the pass.
    pub seeds: Vec<u64>,
}

impl RouterNoise {
    /// What to add to a layer's router logits, `[tokens, n_experts]`.
    ///
    /// # Panics
    /// When there are fewer seeds than rows, or the deviation is not finite.
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

/// A stream of the generator for every layer.
fn stream(layer: LayerId) -> u64 {
    let stack = match layer.stack {
        Stack::Decoder => 0,
        Stack::Encoder => 1,
    };
    2 * layer.block as u64 + stack
}

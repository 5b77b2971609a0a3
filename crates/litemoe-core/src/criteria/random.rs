use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{LayerId, Stack};

/// Random control (arXiv 2606.10703): uniform in [0, 1), independent of the expert.
///
/// Each layer has its own random stream: its values do not depend on the other layers.
pub fn random(layer: LayerId, n_experts: usize, seed: u64) -> Vec<f64> {
    let stack = match layer.stack {
        Stack::Decoder => 0,
        Stack::Encoder => 1 << 63,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stack | layer.block as u64);
    (0..n_experts).map(|_| rng.random()).collect()
}

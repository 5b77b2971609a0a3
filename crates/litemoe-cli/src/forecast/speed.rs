use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};

/// Minimum time of the probe.
const PROBE: Duration = Duration::from_millis(60);

/// Measured speed of matrix products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed {
    flops_per_second: f64,
}

impl Speed {
    /// Measures the product of a batch's tokens with one expert's matrix, again and again for a short time.
    pub(crate) fn probe(device: &Device, tokens: usize, d_model: usize, d_expert: usize) -> Self {
        let (tokens, d_model, d_expert) = (tokens.max(1), d_model.max(1), d_expert.max(1));
        let x = Tensor::<2>::ones([tokens, d_model], device);
        let weight = Tensor::<2>::ones([d_model, d_expert], device);
        let product = || black_box(x.clone().matmul(weight.clone()).into_data());
        product(); // threads and caches
        let start = Instant::now();
        let mut n_products = 0_u32;
        while start.elapsed() < PROBE {
            product();
            n_products += 1;
        }
        let flops = 2.0 * tokens as f64 * d_model as f64 * d_expert as f64 * f64::from(n_products);
        Self { flops_per_second: flops / start.elapsed().as_secs_f64() }
    }

    /// Seconds of this many floating-point operations.
    pub(crate) fn seconds(self, flops: f64) -> f64 {
        flops / self.flops_per_second
    }
}

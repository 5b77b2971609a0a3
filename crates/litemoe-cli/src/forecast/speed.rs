use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, activation};
use litemoe_adapter::BATCH_TOKENS;
use litemoe_model::Checkpoint;

/// Minimum time of the probe.
const PROBE: Duration = Duration::from_millis(100);

/// Measured speed of an expert's operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed {
    flops_per_second: f64,
}

impl Speed {
    /// Measures a SwiGLU expert of the model's widest layer on its share of an evaluation's batch, again and again for a
    /// short time.
    pub(crate) fn probe(checkpoint: &Checkpoint, device: &Device) -> Self {
        let widest = checkpoint.moe_layers().iter().max_by_key(|layer| layer.d_expert);
        let sizes = widest.map_or([1; 3], |layer| {
            [BATCH_TOKENS * layer.top_k / layer.n_experts, layer.d_model, layer.d_expert]
        });
        let [tokens, d_model, d_expert] = sizes.map(|size| size.max(1));
        let x = Tensor::<2>::ones([tokens, d_model], device);
        let [gate, up] = [(); 2].map(|()| Tensor::<2>::ones([d_model, d_expert], device));
        let down = Tensor::<2>::ones([d_expert, d_model], device);
        let expert = || {
            let (x, gate, up) = (x.clone(), gate.clone(), up.clone());
            let inner = activation::silu(x.clone().matmul(gate)) * x.clone().matmul(up);
            black_box((x + inner.matmul(down.clone())).into_data())
        };
        expert(); // starts threads
        let start = Instant::now();
        let mut n_runs = 0_u32;
        while start.elapsed() < PROBE {
            expert();
            n_runs += 1;
        }
        let flops = 6.0 * tokens as f64 * d_model as f64 * d_expert as f64 * f64::from(n_runs);
        Self { flops_per_second: flops / start.elapsed().as_secs_f64() }
    }

    /// Seconds of this many floating-point operations.
    pub(crate) fn seconds(self, flops: f64) -> f64 {
        flops / self.flops_per_second
    }
}

use burn::tensor::Tensor;

use super::qkv::Qkv;
use crate::layers::context::LayerContext;
use crate::layers::linear::Linear;
use crate::layers::norm::Norm;

/// Multi-head latent attention (MLA) projections (DeepSeek-V2, arXiv 2405.04434).
///
/// A query or key head has a NoPE part and a RoPE part; all heads share the key's RoPE part. The KV cache holds the
/// up-projected keys and values, not the latent vector: more memory, but no up-projection of the whole past for every
/// token.
#[derive(Debug)]
pub(crate) struct MlaProjections {
    pub(crate) queries: Queries,
    /// Down-projects to the latent vector and, after it, the key's RoPE part; up-projects to keys and values.
    pub(crate) keys_values: LowRank,
    pub(crate) scale: f64,
    pub(crate) d_plain: usize,
    pub(crate) d_rotated: usize,
    pub(crate) d_value: usize,
}

/// Query projection.
#[derive(Debug)]
pub(crate) enum Queries {
    Full(Box<Linear>),
    LowRank(Box<LowRank>),
}

/// Low-rank projection, with an RMSNorm between its two matrices.
#[derive(Debug)]
pub(crate) struct LowRank {
    pub(crate) down: Linear,
    pub(crate) norm: Norm,
    pub(crate) up: Linear,
}

impl MlaProjections {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let LowRank { down, up, .. } = &self.keys_values;
        match &self.queries {
            Queries::Full(linear) => vec![linear, down, up],
            Queries::LowRank(queries) => vec![&queries.down, &queries.up, down, up],
        }
    }

    pub(super) fn project(&self, x: Tensor<2>, context: LayerContext<'_>) -> Qkv {
        let (q, k_v) = (self.queries(x.clone(), context), &self.keys_values);
        let compressed = k_v.down.forward(x, context.adapters);
        let rank = compressed.dims()[1] - self.d_rotated;
        let rotated = compressed.clone().narrow(1, rank, self.d_rotated);
        let rotated = context.positions.rotate(context.heads(rotated, self.d_rotated));
        let latent = k_v.norm.forward(compressed.narrow(1, 0, rank));
        let k_v = k_v.up.forward(latent, context.adapters);
        let k_v = context.heads(k_v, self.d_plain + self.d_value);
        let [batch, seq, n_heads, _] = k_v.dims();
        let rotated = rotated.expand([batch, seq, n_heads, self.d_rotated]);
        let plain = k_v.clone().narrow(3, 0, self.d_plain);
        Qkv {
            q,
            k: Tensor::cat(vec![plain, rotated], 3),
            v: k_v.narrow(3, self.d_plain, self.d_value),
        }
    }

    fn queries(&self, x: Tensor<2>, context: LayerContext<'_>) -> Tensor<4> {
        let q = match &self.queries {
            Queries::Full(linear) => linear.forward(x, context.adapters),
            Queries::LowRank(queries) => {
                let LowRank { down, norm, up } = &**queries;
                up.forward(norm.forward(down.forward(x, context.adapters)), context.adapters)
            }
        };
        let q = context.heads(q.mul_scalar(self.scale), self.d_plain + self.d_rotated);
        let rotated = q.clone().narrow(3, self.d_plain, self.d_rotated);
        Tensor::cat(vec![q.narrow(3, 0, self.d_plain), context.positions.rotate(rotated)], 3)
    }
}

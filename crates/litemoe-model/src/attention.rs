use burn::tensor::{Tensor, activation};
use litemoe_core::{Adapters, Packing};

use crate::cache::BlockCache;
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::positions::Positions;

/// Grouped-query attention (arXiv 2305.13245) with rotary positions.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    /// Of queries and of keys, before they are rotated.
    pub(crate) norms: Option<QkNorms>,
    /// What queries, keys and values are clamped to, either side of zero.
    pub(crate) clip: Option<f64>,
    /// What queries are multiplied by; `None` where the query's norm does it.
    pub(crate) scale: Option<f64>,
    /// Whether tokens look no further back than the model's window.
    pub(crate) windowed: bool,
    pub(crate) n_kv_heads: usize,
    pub(crate) d_head: usize,
}

/// The normalisation of queries and keys.
#[derive(Debug)]
pub(crate) struct QkNorms {
    pub(crate) q: RmsNorm,
    pub(crate) k: RmsNorm,
    /// The values that are normalised together: a head's, or a whole projection's.
    pub(crate) per_head: bool,
}

impl Attention {
    /// The projections in the order they run.
    pub(crate) fn linears(&self) -> [&Linear; 4] {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
    }

    /// Lets every token look at the tokens before it in its row.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        packing: &Packing,
        positions: &Positions,
        adapters: Option<&Adapters>,
        cache: Option<&mut BlockCache>,
    ) -> Tensor<2> {
        let q = self.q_proj.forward(x.clone(), adapters);
        let k = self.k_proj.forward(x.clone(), adapters);
        let v = self.clipped(self.v_proj.forward(x, adapters));
        let (q, k) = match &self.norms {
            Some(norms) => (self.normalised(&norms.q, q), self.normalised(&norms.k, k)),
            None => (q, k),
        };
        let (q, k) = (self.clipped(q), self.clipped(k));
        let q = match self.scale {
            Some(scale) => q.mul_scalar(scale),
            None => q,
        };
        let q = positions.rotate(self.heads(q, packing));
        let k = positions.rotate(self.heads(k, packing));
        let v = self.heads(v, packing);
        let (k, v) = match cache {
            Some(cache) => cache.extend(packing.start(), k, v),
            None => (k, v),
        };
        let mixed = self.mix(q, k, v, positions.mask(self.windowed));
        self.o_proj.forward(packing.unpad(mixed), adapters)
    }

    fn clipped(&self, x: Tensor<2>) -> Tensor<2> {
        match self.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        }
    }

    /// Normalises packed tokens, `[tokens, heads * d_head]`.
    fn normalised(&self, norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
        if self.norms.as_ref().is_some_and(|norms| !norms.per_head) {
            return norm.forward(x);
        }
        let [tokens, width] = x.dims();
        norm.forward(x.reshape([tokens * width / self.d_head, self.d_head]))
            .reshape([tokens, width])
    }

    /// Pads packed tokens to `[batch, seq, heads, d_head]`.
    fn heads(&self, x: Tensor<2>, packing: &Packing) -> Tensor<4> {
        let heads = x.dims()[1] / self.d_head;
        packing.pad(x).reshape([packing.batch(), packing.seq(), heads, self.d_head])
    }

    /// `softmax(q·kᵀ + mask)·v`. The query heads of a group are rows of one product, so keys and values are never
    /// repeated.
    ///
    /// # Shapes
    /// - `q`: `[batch, seq, n_heads, d_head]`
    /// - `k`, `v`: `[batch, seen, n_kv_heads, d_head]`
    /// - output: `[batch * seq, n_heads * d_head]`
    fn mix(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<2> {
        let ([batch, seq, n_heads, d_head], seen) = (q.dims(), k.dims()[1]);
        let groups = [batch, self.n_kv_heads, n_heads / self.n_kv_heads * seq, d_head];
        let q = q.swap_dims(1, 2).reshape(groups);
        let scores = q.matmul(k.permute([0, 2, 3, 1])).reshape([batch, n_heads, seq, seen]);
        let scores = match mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let weights = activation::softmax(scores, 3);
        let [_, _, rows, _] = groups;
        let mixed = weights.reshape([batch, self.n_kv_heads, rows, seen]).matmul(v.swap_dims(1, 2));
        mixed
            .reshape([batch, n_heads, seq, d_head])
            .swap_dims(1, 2)
            .reshape([batch * seq, n_heads * d_head])
    }
}

use burn::tensor::Tensor;
use litemoe_kernels::{HeadMap, fuses_heads, map_heads};

use super::qkv::Qkv;
use crate::layers::context::LayerContext;
use crate::layers::linear::Linear;
use crate::layers::norm::{Norm, unit_rms};

/// Grouped-query attention (GQA) projections (arXiv 2305.13245): several query heads share a key and a value head.
#[derive(Debug)]
pub(crate) struct GqaProjections {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    /// QK norm with weights, before RoPE.
    pub(crate) norms: Option<QkNorms>,
    /// Clamps queries, keys and values to `[-clip, clip]`.
    pub(crate) clip: Option<f64>,
    /// Softmax scale on the queries; `None` where the query's norm includes it, or where it is 1.
    pub(crate) scale: Option<f64>,
    /// Whether queries and keys get RoPE.
    pub(crate) rotated: bool,
    /// ε of the QK norm after RoPE, which has no weights.
    pub(crate) norm_after: Option<f64>,
    pub(crate) d_head: usize,
}

/// QK norm: RMSNorm of queries and keys.
#[derive(Debug)]
pub(crate) struct QkNorms {
    pub(crate) q: Norm,
    pub(crate) k: Norm,
    /// Whether it runs over each head, or over the whole projection.
    pub(crate) per_head: bool,
}

impl GqaProjections {
    pub(super) fn linears(&self) -> [&Linear; 3] {
        [&self.q_proj, &self.k_proj, &self.v_proj]
    }

    pub(super) fn project(&self, x: Tensor<2>, context: LayerContext<'_>) -> Qkv {
        let q = self.queries(x.clone(), context);
        let (k, v) = self.keys_values(x, context);
        Qkv { q, k, v }
    }

    /// Scaled queries, `[batch, seq, n_heads, d_head]`.
    pub(super) fn queries(&self, x: Tensor<2>, context: LayerContext<'_>) -> Tensor<4> {
        let q = self.q_proj.forward(x, context.adapters);
        let q = self.made(q, self.norms.as_ref().map(|norms| &norms.q), self.scale, context);
        match context.positions.temperature() {
            Some(temperature) if !self.rotated => q * temperature.clone(),
            _ => q,
        }
    }

    /// Keys and values, `[batch, seq, n_kv_heads, d_head]` each.
    pub(super) fn keys_values(
        &self,
        x: Tensor<2>,
        context: LayerContext<'_>,
    ) -> (Tensor<4>, Tensor<4>) {
        let k = self.k_proj.forward(x.clone(), context.adapters);
        let k = self.made(k, self.norms.as_ref().map(|norms| &norms.k), None, context);
        let v = self.clipped(self.v_proj.forward(x, context.adapters));
        (k, context.heads(v, self.d_head))
    }

    /// Maps projections to queries or keys: QK norm, clamp, RoPE, scale.
    fn made(
        &self,
        x: Tensor<2>,
        norm: Option<&Norm>,
        scale: Option<f64>,
        context: LayerContext<'_>,
    ) -> Tensor<4> {
        if let Some(map) = self.head_map(norm, scale, context).filter(|_| fuses_heads(&x)) {
            let [rows, columns] = context.packing.grid();
            let x = map_heads(context.packing.pad(x), self.d_head, &map);
            let heads = x.dims()[1] / self.d_head;
            return x.reshape([rows, columns, heads, self.d_head]);
        }
        let x = match norm {
            Some(norm) => self.normalised(norm, x),
            None => x,
        };
        let x = self.positioned(context.heads(self.clipped(x), self.d_head), context);
        match scale {
            Some(scale) => x.mul_scalar(scale),
            None => x,
        }
    }

    /// The same as one map of each head, where it is one.
    fn head_map<'a>(
        &self,
        norm: Option<&'a Norm>,
        scale: Option<f64>,
        context: LayerContext<'a>,
    ) -> Option<HeadMap<'a>> {
        let per_head = self.norms.as_ref().is_none_or(|norms| norms.per_head);
        if !per_head || self.clip.is_some() || self.norm_after.is_some() {
            return None;
        }
        let norm = match norm {
            Some(norm) => Some(norm.as_rms()?),
            None => None,
        };
        let rotation = self.rotated.then(|| context.positions.rotation()).flatten();
        Some(HeadMap { norm, rotation, scale: scale.unwrap_or(1.) })
    }

    fn clipped(&self, x: Tensor<2>) -> Tensor<2> {
        match self.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        }
    }

    /// RoPE, then the QK norm without weights.
    fn positioned(&self, x: Tensor<4>, context: LayerContext<'_>) -> Tensor<4> {
        let x = if self.rotated { context.positions.rotate(x) } else { x };
        match self.norm_after {
            Some(eps) => unit_rms(x, eps),
            None => x,
        }
    }

    /// QK norm of packed tokens, `[tokens, heads * d_head]`.
    fn normalised(&self, norm: &Norm, x: Tensor<2>) -> Tensor<2> {
        if self.norms.as_ref().is_some_and(|norms| !norms.per_head) {
            return norm.forward(x);
        }
        let [tokens, width] = x.dims();
        norm.forward(x.reshape([tokens * width / self.d_head, self.d_head]))
            .reshape([tokens, width])
    }
}

use burn::tensor::Tensor;

use super::projected::Projected;
use crate::layers::linear::Linear;
use crate::layers::norm::{Norm, unit_rms};
use crate::layers::place::Place;

/// Grouped-query projections (arXiv 2305.13245): some query heads share a key and a value head.
#[derive(Debug)]
pub(crate) struct Grouped {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    /// Of queries and of keys, before they are rotated.
    pub(crate) norms: Option<QkNorms>,
    /// What queries, keys and values are clamped to, either side of zero.
    pub(crate) clip: Option<f64>,
    /// What queries are multiplied by; `None` where the query's norm does it.
    pub(crate) scale: Option<f64>,
    /// Whether queries and keys are rotated.
    pub(crate) rotated: bool,
    /// ε of a normalisation of rotated heads, which has no weight.
    pub(crate) norm_after: Option<f64>,
    pub(crate) d_head: usize,
}

/// The normalisation of queries and keys.
#[derive(Debug)]
pub(crate) struct QkNorms {
    pub(crate) q: Norm,
    pub(crate) k: Norm,
    /// The values that are normalised together: a head's, or a whole projection's.
    pub(crate) per_head: bool,
}

impl Grouped {
    pub(super) fn linears(&self) -> [&Linear; 3] {
        [&self.q_proj, &self.k_proj, &self.v_proj]
    }

    pub(super) fn project(&self, x: Tensor<2>, place: Place<'_>) -> Projected {
        let q = self.queries(x.clone(), place);
        let (k, v) = self.keys_values(x, place);
        Projected { q, k, v }
    }

    /// Scaled queries, `[batch, seq, n_heads, d_head]`.
    pub(super) fn queries(&self, x: Tensor<2>, place: Place<'_>) -> Tensor<4> {
        let q = self.q_proj.forward(x, place.adapters);
        let q = self.made(q, self.norms.as_ref().map(|norms| &norms.q), place);
        let q = match place.positions.temperature() {
            Some(temperature) if !self.rotated => q * temperature.clone(),
            _ => q,
        };
        match self.scale {
            Some(scale) => q.mul_scalar(scale),
            None => q,
        }
    }

    /// Keys and values, `[batch, seq, n_kv_heads, d_head]` each.
    pub(super) fn keys_values(&self, x: Tensor<2>, place: Place<'_>) -> (Tensor<4>, Tensor<4>) {
        let k = self.k_proj.forward(x.clone(), place.adapters);
        let k = self.made(k, self.norms.as_ref().map(|norms| &norms.k), place);
        let v = self.clipped(self.v_proj.forward(x, place.adapters));
        (k, place.heads(v, self.d_head))
    }

    /// Queries or keys from their projection: normalised, clamped, rotated.
    fn made(&self, x: Tensor<2>, norm: Option<&Norm>, place: Place<'_>) -> Tensor<4> {
        let x = match norm {
            Some(norm) => self.normalised(norm, x),
            None => x,
        };
        self.positioned(place.heads(self.clipped(x), self.d_head), place)
    }

    fn clipped(&self, x: Tensor<2>) -> Tensor<2> {
        match self.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        }
    }

    /// Rotates heads, and normalises them after.
    fn positioned(&self, x: Tensor<4>, place: Place<'_>) -> Tensor<4> {
        let x = if self.rotated { place.positions.rotate(x) } else { x };
        match self.norm_after {
            Some(eps) => unit_rms(x, eps),
            None => x,
        }
    }

    /// Normalises packed tokens, `[tokens, heads * d_head]`.
    fn normalised(&self, norm: &Norm, x: Tensor<2>) -> Tensor<2> {
        if self.norms.as_ref().is_some_and(|norms| !norms.per_head) {
            return norm.forward(x);
        }
        let [tokens, width] = x.dims();
        norm.forward(x.reshape([tokens * width / self.d_head, self.d_head]))
            .reshape([tokens, width])
    }
}

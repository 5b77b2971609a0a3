//! Attention: how queries, keys and values are made, one file per way, and how they mix.

mod grouped;
mod latent;

use burn::tensor::{Tensor, activation};
use litemoe_core::{Adapters, Packing};

use crate::layers::cache::BlockCache;
use crate::layers::linear::Linear;
use crate::layers::positions::Positions;
use crate::layers::relative;

pub(crate) use grouped::{Grouped, QkNorms};
pub(crate) use latent::{Latent, LowRank, Queries};

/// Causal attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) projections: Projections,
    pub(crate) o_proj: Linear,
    /// Whether tokens look no further back than the model's window or chunk.
    pub(crate) windowed: bool,
    pub(crate) n_kv_heads: usize,
    /// A score for each head that takes its share and brings no value, `[1, n_heads, 1, 1]`.
    pub(crate) sinks: Option<Tensor<4>>,
}

/// What makes queries, keys and values.
#[derive(Debug)]
pub(crate) enum Projections {
    Grouped(Box<Grouped>),
    Latent(Box<Latent>),
}

/// Queries, already scaled, keys and values, `[batch, seq, heads, width]` each.
pub(crate) struct Projected {
    pub(crate) q: Tensor<4>,
    pub(crate) k: Tensor<4>,
    pub(crate) v: Tensor<4>,
}

/// Another stack's tokens.
pub(crate) enum Memory<'a> {
    /// Its last hidden state, `[tokens, d_model]`, and how its rows lie.
    Stream(&'a Tensor<2>, Place<'a>),
    /// The keys and values that were made of it.
    Cached(&'a (Tensor<4>, Tensor<4>)),
}

/// Where a pass stands: what projections need beside the tokens.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) packing: &'a Packing,
    pub(crate) positions: &'a Positions,
    pub(crate) adapters: Option<&'a Adapters>,
}

impl Place<'_> {
    /// Pads packed tokens to `[batch, seq, heads, width]`.
    fn heads(&self, x: Tensor<2>, width: usize) -> Tensor<4> {
        let heads = x.dims()[1] / width;
        let packing = self.packing;
        packing.pad(x).reshape([packing.batch(), packing.seq(), heads, width])
    }
}

impl Attention {
    /// The projections in the order they run.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut linears = match &self.projections {
            Projections::Grouped(grouped) => grouped.linears().to_vec(),
            Projections::Latent(latent) => latent.linears(),
        };
        linears.push(&self.o_proj);
        linears
    }

    /// Lets every token look at the tokens before it in its row.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        place: Place<'_>,
        cache: Option<&mut BlockCache>,
    ) -> Tensor<2> {
        let Projected { q, k, v } = match &self.projections {
            Projections::Grouped(grouped) => grouped.project(x, place),
            Projections::Latent(latent) => latent.project(x, place),
        };
        let (k, v) = match cache {
            Some(cache) => cache.extend(place.packing.start(), k, v),
            None => (k, v),
        };
        let mixed = self.mix(q, k, v, place.positions.mask(self.windowed));
        self.o_proj.forward(place.packing.unpad(mixed), place.adapters)
    }

    /// Lets every token look at all of its row's tokens in another stack.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    pub(crate) fn across(&self, x: Tensor<2>, memory: &Memory<'_>, place: Place<'_>) -> Tensor<2> {
        let Projections::Grouped(grouped) = &self.projections else {
            unreachable!("no family attends through a latent vector to another stack")
        };
        let q = grouped.queries(x, place);
        let (k, v) = match memory {
            Memory::Stream(hidden, place) => grouped.keys_values((*hidden).clone(), *place),
            Memory::Cached(cached) => (*cached).clone(),
        };
        let mask = match memory {
            Memory::Stream(hidden, place) => relative::padding(place.packing, &hidden.device()),
            Memory::Cached(_) => None,
        };
        let mixed = self.mix(q, k, v, mask.as_ref());
        self.o_proj.forward(place.packing.unpad(mixed), place.adapters)
    }

    /// The keys and values of another stack's tokens, `[batch, seq, n_heads, d_head]` each.
    pub(crate) fn remember(&self, hidden: Tensor<2>, place: Place<'_>) -> (Tensor<4>, Tensor<4>) {
        let Projections::Grouped(grouped) = &self.projections else {
            unreachable!("no family attends through a latent vector to another stack")
        };
        grouped.keys_values(hidden, place)
    }

    /// `softmax(q·kᵀ + mask)·v`. The query heads of a group are rows of one product, so keys and values are never
    /// repeated.
    ///
    /// # Shapes
    /// - `q`: `[batch, seq, n_heads, d_head]`
    /// - `k`: `[batch, seen, n_kv_heads, d_head]`
    /// - `v`: `[batch, seen, n_kv_heads, d_value]`
    /// - output: `[batch * seq, n_heads * d_value]`
    fn mix(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<2> {
        let ([batch, seq, n_heads, d_head], [_, seen, _, d_value]) = (q.dims(), v.dims());
        let groups = [batch, self.n_kv_heads, n_heads / self.n_kv_heads * seq, d_head];
        let q = q.swap_dims(1, 2).reshape(groups);
        let scores = q.matmul(k.permute([0, 2, 3, 1])).reshape([batch, n_heads, seq, seen]);
        let scores = match mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let weights = match &self.sinks {
            Some(sinks) => {
                let sinks = sinks.clone().expand([batch, n_heads, seq, 1]);
                activation::softmax(Tensor::cat(vec![scores, sinks], 3), 3).narrow(3, 0, seen)
            }
            None => activation::softmax(scores, 3),
        };
        let [_, _, rows, _] = groups;
        let mixed = weights.reshape([batch, self.n_kv_heads, rows, seen]).matmul(v.swap_dims(1, 2));
        mixed
            .reshape([batch, n_heads, seq, d_value])
            .swap_dims(1, 2)
            .reshape([batch * seq, n_heads * d_value])
    }
}

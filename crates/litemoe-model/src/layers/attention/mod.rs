//! Attention: the projections, one file per kind, and scaled dot-product attention.

mod fused;
mod grouped;
mod latent;
mod qkv;

use std::ops::Range;

use burn::tensor::{Tensor, activation};
use litemoe_kernels::parallel_map;

use crate::layers::context::LayerContext;
use crate::layers::kv_cache::BlockCache;
use crate::layers::linear::Linear;
use crate::layers::relative_position_bias;

pub(crate) use grouped::{GqaProjections, QkNorms};
use qkv::Qkv;

pub(crate) use latent::{LowRank, MlaProjections, Queries};

/// Self-attention, or cross-attention to an encoder.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) projections: Projections,
    pub(crate) o_proj: Linear,
    /// Whether attention is limited to the model's sliding window or chunk.
    pub(crate) windowed: bool,
    pub(crate) n_kv_heads: usize,
    /// Attention sink: a logit per head in the softmax, without a value, `[1, n_heads, 1, 1]`.
    pub(crate) sinks: Option<Tensor<4>>,
}

/// Query, key and value projections: GQA or MLA.
#[derive(Debug)]
pub(crate) enum Projections {
    Gqa(Box<GqaProjections>),
    Mla(Box<MlaProjections>),
}

/// Encoder tokens, for cross-attention.
pub(crate) enum CrossStates<'a> {
    /// Final hidden state, `[tokens, d_model]`, and the layout of its rows.
    Stream(&'a Tensor<2>, LayerContext<'a>),
    /// Cross-attention keys and values of each row.
    Cached(Vec<&'a (Tensor<4>, Tensor<4>)>),
}

impl Attention {
    /// Projections in execution order.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut linears = match &self.projections {
            Projections::Gqa(grouped) => grouped.linears().to_vec(),
            Projections::Mla(latent) => latent.linears(),
        };
        linears.push(&self.o_proj);
        linears
    }

    /// Self-attention. `caches` has a KV cache for each row that continues a text.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        context: LayerContext<'_>,
        mut caches: Option<&mut [&mut BlockCache]>,
    ) -> Tensor<2> {
        let projected = match &self.projections {
            Projections::Gqa(grouped) => grouped.project(x, context),
            Projections::Mla(latent) => latent.project(x, context),
        };
        let mixed = match self.fused(&projected, context, caches.as_deref_mut()) {
            Some(mixed) => mixed,
            None => self.plain(&projected, context, caches),
        };
        self.o_proj.forward(context.packing.unpad(mixed), context.adapters)
    }

    /// Self-attention by plain tensor operations, `[rows * columns, n_heads * d_value]`.
    fn plain(
        &self,
        projected: &Qkv,
        context: LayerContext<'_>,
        caches: Option<&mut [&mut BlockCache]>,
    ) -> Tensor<2> {
        let mask = |row| context.positions.mask(row, self.windowed);
        match caches {
            None => self.scaled_dot_product(&projected.q, &projected.k, &projected.v, mask(0)),
            Some(caches) => {
                let rows =
                    context.packing.row_ranges().zip(context.packing.starts().unwrap_or(&[]));
                let row = |(row, (cache, (tokens, &start))): (usize, (&mut &mut BlockCache, _))| {
                    let Qkv { q, k, v } = projected.columns(tokens);
                    let (k, v) = cache.extend(start, k, v);
                    self.scaled_dot_product(&q, &k, &v, mask(row))
                };
                cat(caches.iter_mut().zip(rows).enumerate().map(row).collect(), 0)
            }
        }
    }

    /// Cross-attention: every token attends to all of its row's encoder tokens.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    pub(crate) fn cross_attention(
        &self,
        x: Tensor<2>,
        memory: &CrossStates<'_>,
        context: LayerContext<'_>,
    ) -> Tensor<2> {
        let grouped = self.grouped();
        let q = grouped.queries(x, context);
        let mixed = match memory {
            CrossStates::Stream(hidden, context) => {
                let (k, v) = grouped.keys_values((*hidden).clone(), *context);
                let mask = relative_position_bias::padding(context.packing, &hidden.device());
                self.scaled_dot_product(&q, &k, &v, mask.as_ref())
            }
            CrossStates::Cached(rows) => {
                let row = |(tokens, (k, v)): (Range<usize>, &&(Tensor<4>, Tensor<4>))| {
                    let q = q.clone().narrow(1, tokens.start, tokens.len());
                    self.scaled_dot_product(&q, k, v, None)
                };
                cat(context.packing.row_ranges().zip(rows).map(row).collect(), 0)
            }
        };
        self.o_proj.forward(context.packing.unpad(mixed), context.adapters)
    }

    fn grouped(&self) -> &GqaProjections {
        match &self.projections {
            Projections::Gqa(grouped) => grouped,
            Projections::Mla(_) => {
                unreachable!("no family attends through a latent vector to another stack")
            }
        }
    }

    /// Cross-attention keys and values of the encoder's tokens, `[batch, seq, n_kv_heads, d_head]` each.
    pub(crate) fn cross_keys_values(
        &self,
        hidden: Tensor<2>,
        context: LayerContext<'_>,
    ) -> (Tensor<4>, Tensor<4>) {
        self.grouped().keys_values(hidden, context)
    }

    /// Scaled dot-product attention, `softmax(q·kᵀ + mask)·v`, in chunks of queries where the scores are many.
    ///
    /// # Shapes
    /// - `q`: `[batch, seq, n_heads, d_head]`
    /// - `k`: `[batch, seen, n_kv_heads, d_head]`
    /// - `v`: `[batch, seen, n_kv_heads, d_value]`
    /// - output: `[batch * seq, n_heads * d_value]`
    fn scaled_dot_product(
        &self,
        q: &Tensor<4>,
        k: &Tensor<4>,
        v: &Tensor<4>,
        mask: Option<&Tensor<4>>,
    ) -> Tensor<2> {
        let ([batch, seq, n_heads, _], [_, seen, _, d_value]) = (q.dims(), v.dims());
        let chunk = match batch * n_heads * seq * seen {
            few if few <= MAX_SCORES => seq,
            _ => (MAX_SCORES / n_threads() / (batch * n_heads * seen)).clamp(1, seq),
        };
        let starts = (0..seq).step_by(chunk).collect();
        let chunks = parallel_map(&q.device(), starts, |start| {
            let len = chunk.min(seq - start);
            let q = q.clone().narrow(1, start, len);
            let mask = mask.map(|mask| match mask.dims()[2] {
                1 => mask.clone(),
                _ => mask.clone().narrow(2, start, len),
            });
            self.attend(q, k.clone(), v.clone(), mask)
        });
        let mixed = cat(chunks, 1);
        mixed.reshape([batch * seq, n_heads * d_value])
    }

    /// GQA of some queries, `[batch, seq, n_heads, d_value]`. The query heads of a group are rows of one matrix
    /// product, so keys and values are never repeated.
    fn attend(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        mask: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let ([batch, seq, n_heads, d_head], [_, seen, _, d_value]) = (q.dims(), v.dims());
        let groups = [batch, self.n_kv_heads, n_heads / self.n_kv_heads * seq, d_head];
        let q = q.swap_dims(1, 2).reshape(groups);
        let scores = q.matmul(k.permute([0, 2, 3, 1])).reshape([batch, n_heads, seq, seen]);
        let scores = match mask {
            Some(mask) => scores + mask,
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
        mixed.reshape([batch, n_heads, seq, d_value]).swap_dims(1, 2)
    }
}

/// Maximum attention scores in memory at once, in each of a few tensors.
const MAX_SCORES: usize = 1 << 24;

/// Chunks in memory at once.
fn n_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Concatenates tensors; a single one is not copied.
fn cat<const D: usize>(mut tensors: Vec<Tensor<D>>, dim: usize) -> Tensor<D> {
    match tensors.len() {
        1 => tensors.remove(0),
        _ => Tensor::cat(tensors, dim),
    }
}

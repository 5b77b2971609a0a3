use std::ops::Range;

use super::blocks::{BLOCK, BLOCK_LANES, Blocks, HeadShape};
use super::key_values::{KeyValues, Stored};
use super::lanes::{LANES, Lanes, values};
use super::product::{Left, add_product};
use super::simd::{Load, Simd, Task};
use super::span::AttentionSpan;
use crate::exp::exp;

/// Rows of a head group's queries in a tile, unless a single token has more.
pub(super) const TILE_ROWS: usize = 64;

/// Some consecutive queries of one row and one key–value head: a task of the kernel.
pub(super) struct Tile<'a> {
    pub(super) keys_values: &'a KeyValues,
    pub(super) kv_head: usize,
    /// The head group's queries, per token `[n_heads / n_kv_heads * d_key]`.
    pub(super) queries: Vec<&'a [f32]>,
    /// Position of the first query.
    pub(super) start: usize,
    pub(super) span: AttentionSpan,
    /// Attention sink of each head of the group.
    pub(super) sinks: Option<&'a [f32]>,
    /// Per token, `[n_heads / n_kv_heads * d_value]`.
    pub(super) outputs: Vec<&'a mut [f32]>,
    /// Logarithm of the sum of the exponentials of the scores, per token `[n_heads / n_kv_heads]`; empty where it is
    /// not wanted.
    pub(super) log_sums: Vec<&'a mut [f32]>,
}

impl Task for Tile<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match &self.keys_values.0 {
            Stored::F32(blocks) => attend(simd, self, blocks),
            Stored::Bf16(blocks) => attend(simd, self, blocks),
        }
    }
}

/// Online softmax of one query (arXiv 1805.02867).
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
}

impl Softmax {
    /// The sink is a logit without a value. Otherwise the maximum begins finite, so that no infinities are subtracted.
    fn new(sink: Option<f32>) -> Self {
        match sink {
            Some(max) => Self { max, sum: 1. },
            None => Self { max: f32::MIN, sum: 0. },
        }
    }

    /// Replaces the scores of a block by weights relative to the maximum so far; keys outside `seen` get none. Returns
    /// the factor of the earlier weights.
    #[inline(always)]
    fn add(&mut self, scores: &mut [Lanes; BLOCK_LANES], seen: &Range<usize>) -> f32 {
        let each: &mut [f32; BLOCK] = bytemuck::cast_mut(scores);
        each[..seen.start].fill(f32::NEG_INFINITY);
        each[seen.end..].fill(f32::NEG_INFINITY);
        let mut most = [self.max; LANES];
        for Lanes(scores) in &*scores {
            for (most, &score) in most.iter_mut().zip(scores) {
                *most = if score > *most { score } else { *most };
            }
        }
        let max = most.into_iter().fold(f32::MIN, f32::max);
        let mut sums = [0.; LANES];
        for Lanes(scores) in scores {
            for (sum, score) in sums.iter_mut().zip(scores) {
                *score = weight(*score - max);
                *sum += *score;
            }
        }
        let factor = weight(self.max - max);
        self.sum = self.sum * factor + pairwise_sum(sums);
        self.max = max;
        factor
    }
}

/// `exp(x)`; 0 where it is below the smallest normal number.
#[inline(always)]
pub(super) fn weight(x: f32) -> f32 {
    if x < -87. { 0. } else { exp(x) }
}

#[inline(always)]
fn pairwise_sum(mut sums: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = sums.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
    }
    sums[0]
}

/// Scaled dot-product attention with an online softmax over blocks of keys (FlashAttention, arXiv 2205.14135). Blocks
/// begin at multiples of their size, so that, for finite values, a query's output does not depend on the other queries.
#[inline(always)]
fn attend<S: Simd, L: Load>(simd: S, tile: Tile<'_>, blocks: &Blocks<L>) {
    let Tile { kv_head, queries, start, span, sinks, mut outputs, log_sums, .. } = tile;
    let HeadShape { d_key, d_value, .. } = blocks.shape;
    let width = blocks.shape.value_lanes();
    let Some(group) = queries.first().map(|query| query.len() / d_key) else { return };
    let q = queries.concat();
    let n_rows = queries.len() * group;
    let sink = |row: usize| sinks.map(|sinks| sinks[row % group]);
    let mut softmax: Vec<Softmax> = (0..n_rows).map(|row| Softmax::new(sink(row))).collect();
    let mut scores = vec![[Lanes::ZERO; BLOCK_LANES]; n_rows];
    let mut mixed = vec![Lanes::ZERO; n_rows * width];
    let end = start + queries.len();
    for block in span.keys(start).start / BLOCK..end.div_ceil(BLOCK) {
        let first = block * BLOCK;
        let within = |position: usize| position.clamp(first, first + BLOCK) - first;
        let (keys, values_of_block) = blocks.block(block, kv_head);
        scores.fill([Lanes::ZERO; BLOCK_LANES]);
        let a = Left::rows(&q, d_key, d_key);
        add_product(simd, a, keys, BLOCK_LANES, scores.as_flattened_mut());
        for (row, scores) in scores.iter_mut().enumerate() {
            let keys = span.keys(start + row / group);
            let seen = within(keys.start)..within(keys.end);
            if seen.is_empty() {
                scores.fill(Lanes::ZERO);
                continue;
            }
            let factor = softmax[row].add(scores, &seen);
            if factor != 1. {
                for Lanes(mixed) in &mut mixed[row * width..][..width] {
                    mixed.iter_mut().for_each(|mixed| *mixed *= factor);
                }
            }
        }
        let weights = values(scores.as_flattened());
        let a = Left::rows(weights, BLOCK, within(end));
        add_product(simd, a, values_of_block, width, &mut mixed);
    }
    for (log_sum, softmax) in log_sums.into_iter().flatten().zip(&softmax) {
        *log_sum = softmax.max + softmax.sum.ln();
    }
    let rows = outputs.iter_mut().flat_map(|output| output.chunks_exact_mut(d_value));
    for ((output, softmax), mixed) in rows.zip(softmax).zip(mixed.chunks_exact(width)) {
        let scale = 1. / softmax.sum;
        for (output, mixed) in output.iter_mut().zip(values(mixed)) {
            *output = mixed * scale;
        }
    }
}

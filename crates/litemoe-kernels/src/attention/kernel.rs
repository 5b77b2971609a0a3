use rayon::prelude::*;

use super::backward::BackwardTile;
use super::blocks::{Blocks, HeadShape};
use super::key_values::KeyValues;
use super::simd;
use super::span::AttentionSpan;
use super::tile::{TILE_ROWS, Tile};
use crate::matrix::InstructionSet;
use crate::pool;

/// Minimum number of multiplications of parallel tasks.
const PARALLEL_MULTIPLICATIONS: usize = 1 << 17;

/// Queries of one row, of consecutive positions, and the keys and values up to the last of them.
pub(super) struct Row<'a> {
    /// `[tokens, n_heads * d_key]`
    pub(super) queries: &'a [f32],
    /// Position of the first query.
    pub(super) start: usize,
    pub(super) keys_values: &'a KeyValues,
    /// `[tokens, n_heads * d_value]`
    pub(super) output: &'a mut [f32],
    /// Logarithms of the softmax's denominators, `[tokens, n_heads]`; empty where they are not wanted.
    pub(super) log_sums: &'a mut [f32],
}

/// Computes the rows, in tiles that depend neither on the other rows nor on the number of threads.
pub(super) fn run(
    set: InstructionSet,
    rows: Vec<Row<'_>>,
    n_heads: usize,
    span: AttentionSpan,
    sinks: Option<&[f32]>,
) {
    let multiplications = rows.iter().map(|row| {
        let seen = span.keys(row.keys_values.len().saturating_sub(1)).len();
        row.queries.len() * seen * 2
    });
    let is_parallel = multiplications.sum::<usize>() >= PARALLEL_MULTIPLICATIONS;
    let tiles = rows.into_iter().flat_map(|row| tiles(row, n_heads, span, sinks));
    if is_parallel {
        let mut tiles: Vec<_> = tiles.map(Some).collect();
        pool::for_each(&mut tiles, |tile| {
            simd::run(set, tile.take().expect("each is visited once"));
        });
    } else {
        tiles.for_each(|tile| simd::run(set, tile));
    }
}

fn tiles<'a>(
    row: Row<'a>,
    n_heads: usize,
    span: AttentionSpan,
    sinks: Option<&'a [f32]>,
) -> Vec<Tile<'a>> {
    let Row { queries, start, keys_values, output, log_sums } = row;
    let HeadShape { n_kv_heads, d_key, d_value } = keys_values.shape();
    let group = n_heads / n_kv_heads;
    let tile_tokens = (TILE_ROWS / group).max(1);
    let query_width = group * d_key;
    let queries = queries.chunks(tile_tokens * n_heads * d_key);
    let outputs = output.chunks_mut(tile_tokens * n_heads * d_value);
    let mut log_sums = log_sums.chunks_mut(tile_tokens * n_heads);
    let mut tiles = Vec::new();
    for (at, (queries, outputs)) in queries.zip(outputs).enumerate() {
        let n_tokens = queries.len() / (n_kv_heads * query_width);
        let mut queries = by_head(queries, n_kv_heads, n_tokens);
        let mut outputs = by_head_mut(outputs, n_kv_heads, n_tokens);
        let mut log_sums = by_head_mut(log_sums.next().unwrap_or_default(), n_kv_heads, n_tokens);
        tiles.extend((0..n_kv_heads).map(|kv_head| Tile {
            keys_values,
            kv_head,
            queries: std::mem::take(&mut queries[kv_head]),
            start: start + at * tile_tokens,
            span,
            sinks: sinks.map(|sinks| &sinks[kv_head * group..][..group]),
            outputs: std::mem::take(&mut outputs[kv_head]),
            log_sums: std::mem::take(&mut log_sums[kv_head]),
        }));
    }
    tiles
}

/// A row whose queries, keys and values are all its tokens, with its outputs and their gradients.
pub(super) struct BackwardRow<'a> {
    pub(super) queries: &'a [f32],
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) outputs: &'a [f32],
    pub(super) grads: &'a [f32],
    /// Logarithms of the softmax's denominators, `[tokens, n_heads]`.
    pub(super) log_sums: &'a [f32],
    /// Gradients of queries, keys and values.
    pub(super) d_queries: &'a mut [f32],
    pub(super) d_keys: &'a mut [f32],
    pub(super) d_values: &'a mut [f32],
}

/// Computes the gradients of the rows, a key–value head per task.
pub(super) fn run_backward(
    set: InstructionSet,
    rows: Vec<BackwardRow<'_>>,
    [n_heads, n_kv_heads]: [usize; 2],
    span: AttentionSpan,
) {
    rows.into_par_iter().for_each(|row| {
        let n_tokens = row.log_sums.len() / n_heads;
        if n_tokens == 0 {
            return;
        }
        let width = |all: &[f32]| all.len() / n_tokens / n_kv_heads;
        let [d_key, d_value] = [width(row.keys), width(row.values)];
        let mut keys_values = Blocks::new(HeadShape { n_kv_heads, d_key, d_value });
        keys_values.write(0, row.keys, row.values);
        let exchanged = HeadShape { n_kv_heads, d_key: d_value, d_value: d_key };
        let mut values_keys = Blocks::new(exchanged);
        values_keys.write(0, row.values, row.keys);
        let mut queries = by_head(row.queries, n_kv_heads, n_tokens);
        let mut outputs = by_head(row.outputs, n_kv_heads, n_tokens);
        let mut grads = by_head(row.grads, n_kv_heads, n_tokens);
        let mut log_sums = by_head(row.log_sums, n_kv_heads, n_tokens);
        let mut d_queries = by_head_mut(row.d_queries, n_kv_heads, n_tokens);
        let mut d_keys = by_head_mut(row.d_keys, n_kv_heads, n_tokens);
        let mut d_values = by_head_mut(row.d_values, n_kv_heads, n_tokens);
        let tiles: Vec<_> = (0..n_kv_heads)
            .map(|kv_head| BackwardTile {
                keys_values: &keys_values,
                values_keys: &values_keys,
                kv_head,
                span,
                queries: std::mem::take(&mut queries[kv_head]),
                outputs: std::mem::take(&mut outputs[kv_head]),
                grads: std::mem::take(&mut grads[kv_head]),
                log_sums: std::mem::take(&mut log_sums[kv_head]),
                d_queries: std::mem::take(&mut d_queries[kv_head]),
                d_keys: std::mem::take(&mut d_keys[kv_head]),
                d_values: std::mem::take(&mut d_values[kv_head]),
            })
            .collect();
        tiles.into_par_iter().for_each(|tile| simd::run(set, tile));
    });
}

/// Each head's slice of every token.
fn by_head(all: &[f32], n_heads: usize, n_tokens: usize) -> Vec<Vec<&[f32]>> {
    let mut heads = vec![Vec::with_capacity(n_tokens); n_heads];
    for (at, slice) in all.chunks_exact((all.len() / n_tokens / n_heads).max(1)).enumerate() {
        heads[at % n_heads].push(slice);
    }
    heads
}

/// As [`by_head`], to be written.
fn by_head_mut(all: &mut [f32], n_heads: usize, n_tokens: usize) -> Vec<Vec<&mut [f32]>> {
    let mut heads: Vec<_> = (0..n_heads).map(|_| Vec::with_capacity(n_tokens)).collect();
    for (at, slice) in all.chunks_exact_mut((all.len() / n_tokens / n_heads).max(1)).enumerate() {
        heads[at % n_heads].push(slice);
    }
    heads
}

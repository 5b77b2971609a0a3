use super::blocks::{BLOCK, BLOCK_LANES, Blocks, HeadShape};
use super::lanes::{LANES, Lanes, values, values_mut};
use super::product::{Left, add_product};
use super::simd::{Simd, Task};
use super::span::AttentionSpan;
use super::tile::{TILE_ROWS, weight};

/// Gradients of one row and one key–value head: a task of the backward pass.
///
/// The weights are computed again from the scores and the logarithms of their sums (FlashAttention-2, arXiv 2307.08691):
/// with `p` the weights and `δ = ∂o·o`, the values' gradient is `pᵀ·∂o`, that of the scores `p·(∂o·vᵀ − δ)`.
pub(super) struct BackwardTile<'a> {
    /// The row's keys and values, and the same with the two exchanged.
    pub(super) keys_values: &'a Blocks<Lanes>,
    pub(super) values_keys: &'a Blocks<Lanes>,
    pub(super) kv_head: usize,
    pub(super) span: AttentionSpan,
    /// Of the head group, per token: queries, outputs, gradients of the outputs, logarithms of sums.
    pub(super) queries: Vec<&'a [f32]>,
    pub(super) outputs: Vec<&'a [f32]>,
    pub(super) grads: Vec<&'a [f32]>,
    pub(super) log_sums: Vec<&'a [f32]>,
    /// Gradients, per token.
    pub(super) d_queries: Vec<&'a mut [f32]>,
    pub(super) d_keys: Vec<&'a mut [f32]>,
    pub(super) d_values: Vec<&'a mut [f32]>,
}

impl Task for BackwardTile<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        backward(simd, self);
    }
}

/// Rows in whole lanes, `[n, width.div_ceil(16)]`.
fn in_lanes(rows: &[&[f32]], width: usize) -> Vec<Lanes> {
    let lanes = width.div_ceil(LANES);
    let rows = rows.iter().flat_map(|row| row.chunks_exact(width));
    let mut all = Vec::with_capacity(rows.size_hint().0 * lanes);
    for row in rows {
        let first = all.len();
        all.resize(first + lanes, Lanes::ZERO);
        values_mut(&mut all[first..])[..width].copy_from_slice(row);
    }
    all
}

#[inline(always)]
fn backward<S: Simd>(simd: S, tile: BackwardTile<'_>) {
    let BackwardTile { keys_values, values_keys, kv_head, span, .. } = tile;
    let HeadShape { d_key, d_value, .. } = keys_values.shape;
    let (key_lanes, value_lanes) =
        (values_keys.shape.value_lanes(), keys_values.shape.value_lanes());
    let n_tokens = tile.queries.len();
    let Some(group) = tile.queries.first().map(|query| query.len() / d_key) else { return };
    let (queries, grads) = (in_lanes(&tile.queries, d_key), in_lanes(&tile.grads, d_value));
    let log_sums = tile.log_sums.concat();
    let outputs = tile.outputs.iter().flat_map(|output| output.chunks_exact(d_value));
    let deltas = outputs.zip(grads.chunks_exact(value_lanes));
    let deltas =
        deltas.map(|(output, grad)| output.iter().zip(values(grad)).map(|(o, g)| o * g).sum());
    let deltas: Vec<f32> = deltas.collect();
    let mut d_queries = vec![Lanes::ZERO; queries.len()];
    let (mut d_keys, mut d_values) = (tile.d_keys.into_iter(), tile.d_values.into_iter());
    let tile_tokens = (TILE_ROWS / group).max(1);
    for block in 0..n_tokens.div_ceil(BLOCK) {
        let first = block * BLOCK;
        let (keys_t, _) = keys_values.block(block, kv_head);
        let (values_t, keys) = values_keys.block(block, kv_head);
        let mut block_d_keys = vec![Lanes::ZERO; BLOCK * key_lanes];
        let mut block_d_values = vec![Lanes::ZERO; BLOCK * value_lanes];
        for token in (first..n_tokens).step_by(tile_tokens) {
            let tokens = token..n_tokens.min(token + tile_tokens);
            if span.keys(token).start >= first + BLOCK {
                break;
            }
            let rows = tokens.start * group..tokens.end * group;
            let n_rows = rows.len();
            let q = &queries[rows.start * key_lanes..rows.end * key_lanes];
            let grad = &grads[rows.start * value_lanes..rows.end * value_lanes];
            let mut weights = vec![Lanes::ZERO; n_rows * BLOCK_LANES];
            let a = Left::rows(values(q), key_lanes * LANES, d_key);
            add_product(simd, a, keys_t, BLOCK_LANES, &mut weights);
            let mut d_scores = vec![Lanes::ZERO; n_rows * BLOCK_LANES];
            let a = Left::rows(values(grad), value_lanes * LANES, d_value);
            add_product(simd, a, values_t, BLOCK_LANES, &mut d_scores);
            let each = values_mut(&mut weights).chunks_exact_mut(BLOCK);
            let each = each.zip(values_mut(&mut d_scores).chunks_exact_mut(BLOCK)).enumerate();
            for (row, (weights, d_scores)) in each {
                let seen = span.keys(tokens.start + row / group);
                let within = |position: usize| position.clamp(first, first + BLOCK) - first;
                let seen = within(seen.start)..within(seen.end);
                let (log_sum, delta) = (log_sums[rows.start + row], deltas[rows.start + row]);
                weights[..seen.start].fill(f32::NEG_INFINITY);
                weights[seen.end..].fill(f32::NEG_INFINITY);
                for (p, d) in weights.iter_mut().zip(d_scores) {
                    *p = weight(*p - log_sum);
                    *d = *p * (*d - delta);
                }
            }
            let a = Left::columns(values(&weights), BLOCK, n_rows);
            add_product(simd, a, grad, value_lanes, &mut block_d_values);
            let a = Left::columns(values(&d_scores), BLOCK, n_rows);
            add_product(simd, a, q, key_lanes, &mut block_d_keys);
            let a = Left::rows(values(&d_scores), BLOCK, BLOCK);
            let d_queries = &mut d_queries[rows.start * key_lanes..rows.end * key_lanes];
            add_product(simd, a, keys, key_lanes, d_queries);
        }
        write(d_keys.by_ref().take(BLOCK), &block_d_keys, key_lanes);
        write(d_values.by_ref().take(BLOCK), &block_d_values, value_lanes);
    }
    let tokens = tile.d_queries.into_iter().flat_map(|token| token.chunks_exact_mut(d_key));
    write(tokens, &d_queries, key_lanes);
}

/// Writes rows without their padding.
fn write<'a>(to: impl Iterator<Item = &'a mut [f32]>, rows: &[Lanes], lanes: usize) {
    for (to, row) in to.zip(rows.chunks_exact(lanes)) {
        to.copy_from_slice(&values(row)[..to.len()]);
    }
}

use std::sync::Arc;

use super::lanes::{LANES, Lanes, values_mut};

/// Tokens of a block.
pub(super) const BLOCK: usize = 64;
/// Lanes of a block's tokens.
pub(super) const BLOCK_LANES: usize = BLOCK / LANES;

/// Keys and values of one text in one layer (KV cache), in blocks of 64 tokens (arXiv 2309.06180): a new token moves
/// none of those before it, and clones share the blocks that neither has written since.
#[derive(Debug, Clone)]
pub struct KeyValues {
    n_kv_heads: usize,
    d_key: usize,
    d_value: usize,
    len: usize,
    /// Per key–value head, the keys `[d_key, 64]`, then the values `[64, d_value]`, padded to whole lanes.
    blocks: Vec<Arc<Vec<Lanes>>>,
}

impl KeyValues {
    /// No tokens.
    pub fn new(n_kv_heads: usize, d_key: usize, d_value: usize) -> Self {
        Self { n_kv_heads, d_key, d_value, len: 0, blocks: Vec::new() }
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Key–value heads.
    pub(super) fn n_kv_heads(&self) -> usize {
        self.n_kv_heads
    }

    /// Head width of keys.
    pub(super) fn d_key(&self) -> usize {
        self.d_key
    }

    /// Head width of values.
    pub(super) fn d_value(&self) -> usize {
        self.d_value
    }

    /// Lanes of a token's values in one head.
    pub(super) fn value_lanes(&self) -> usize {
        self.d_value.div_ceil(LANES)
    }

    /// Writes tokens after the first `held` and drops those that were there.
    ///
    /// # Shapes
    /// - `keys`: `[tokens, n_kv_heads * d_key]`
    /// - `values`: `[tokens, n_kv_heads * d_value]`
    ///
    /// # Panics
    /// When there are fewer than `held` tokens.
    pub(super) fn write(&mut self, held: usize, keys: &[f32], values: &[f32]) {
        assert!(held <= self.len, "{held} tokens held of {}", self.len);
        let (key_width, value_width) =
            (self.n_kv_heads * self.d_key, self.n_kv_heads * self.d_value);
        let n = values.len() / value_width.max(1);
        self.len = held + n;
        self.blocks.truncate(held.div_ceil(BLOCK));
        let mut done = 0;
        while done < n {
            let (block, from) = ((held + done) / BLOCK, (held + done) % BLOCK);
            let count = (BLOCK - from).min(n - done);
            if block == self.blocks.len() {
                let lanes = self.n_kv_heads * self.head_lanes();
                self.blocks.push(Arc::new(vec![Lanes::ZERO; lanes]));
            }
            let keys = &keys[done * key_width..][..count * key_width];
            let values = &values[done * value_width..][..count * value_width];
            self.write_block(block, from, keys, values);
            done += count;
        }
    }

    /// Writes tokens of one block, from token `from` of it.
    fn write_block(&mut self, block: usize, from: usize, keys: &[f32], values: &[f32]) {
        let (d_key, d_value) = (self.d_key, self.d_value);
        let (head_lanes, key_lanes, value_lanes) =
            (self.head_lanes(), self.key_lanes(), self.value_lanes());
        let (key_width, value_width) = (self.n_kv_heads * d_key, self.n_kv_heads * d_value);
        let lanes = Arc::make_mut(&mut self.blocks[block]);
        for (head, lanes) in lanes.chunks_exact_mut(head_lanes).enumerate() {
            let (to_keys, to_values) = lanes.split_at_mut(key_lanes);
            for (d, to) in values_mut(to_keys).chunks_exact_mut(BLOCK).enumerate() {
                let tokens = keys.chunks_exact(key_width).map(|key| key[head * d_key + d]);
                to[from..].iter_mut().zip(tokens).for_each(|(to, key)| *to = key);
            }
            let to = values_mut(to_values).chunks_exact_mut(value_lanes * LANES).skip(from);
            for (to, value) in to.zip(values.chunks_exact(value_width)) {
                to[..d_value].copy_from_slice(&value[head * d_value..][..d_value]);
            }
        }
    }

    /// Keys `[d_key, 64]` and values `[64, d_value]` of a block in one head, the values padded to whole lanes.
    pub(super) fn block(&self, block: usize, head: usize) -> (&[Lanes], &[Lanes]) {
        let lanes = &self.blocks[block][head * self.head_lanes()..][..self.head_lanes()];
        lanes.split_at(self.key_lanes())
    }

    fn key_lanes(&self) -> usize {
        self.d_key * BLOCK_LANES
    }

    fn head_lanes(&self) -> usize {
        self.key_lanes() + BLOCK * self.value_lanes()
    }
}

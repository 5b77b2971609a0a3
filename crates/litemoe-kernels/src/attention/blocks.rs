use std::sync::Arc;

use super::lanes::{LANES, StoredLanes, values_mut};

/// Tokens of a block.
pub(super) const BLOCK: usize = 64;
/// Lanes of a block's tokens.
pub(super) const BLOCK_LANES: usize = BLOCK / LANES;

/// Key–value heads of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadShape {
    pub(super) n_kv_heads: usize,
    /// Head width of keys.
    pub(super) d_key: usize,
    /// Head width of values.
    pub(super) d_value: usize,
}

impl HeadShape {
    /// Lanes of a token's values in one head.
    pub(super) fn value_lanes(self) -> usize {
        self.d_value.div_ceil(LANES)
    }

    fn key_lanes(self) -> usize {
        self.d_key * BLOCK_LANES
    }

    fn head_lanes(self) -> usize {
        self.key_lanes() + BLOCK * self.value_lanes()
    }
}

/// Keys and values of one text in blocks of 64 tokens, stored as `L`.
#[derive(Debug, Clone)]
pub(super) struct Blocks<L> {
    pub(super) shape: HeadShape,
    len: usize,
    /// Per key–value head, the keys `[d_key, 64]`, then the values `[64, d_value]`, padded to whole lanes.
    blocks: Vec<Arc<Vec<L>>>,
}

impl<L: StoredLanes> Blocks<L> {
    /// No tokens.
    pub(super) fn new(shape: HeadShape) -> Self {
        Self { shape, len: 0, blocks: Vec::new() }
    }

    /// Tokens.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory of the blocks in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| size_of_val(block.as_slice()) as u64).sum()
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
        let HeadShape { n_kv_heads, d_key, d_value } = self.shape;
        let (key_width, value_width) = (n_kv_heads * d_key, n_kv_heads * d_value);
        let n = values.len() / value_width.max(1);
        self.len = held + n;
        self.blocks.truncate(held.div_ceil(BLOCK));
        let mut done = 0;
        while done < n {
            let (block, from) = ((held + done) / BLOCK, (held + done) % BLOCK);
            let count = (BLOCK - from).min(n - done);
            if block == self.blocks.len() {
                let lanes = n_kv_heads * self.shape.head_lanes();
                self.blocks.push(Arc::new(vec![L::zeroed(); lanes]));
            }
            let keys = &keys[done * key_width..][..count * key_width];
            let values = &values[done * value_width..][..count * value_width];
            self.write_block(block, from, keys, values);
            done += count;
        }
    }

    /// Writes tokens of one block, from token `from` of it.
    fn write_block(&mut self, block: usize, from: usize, keys: &[f32], values: &[f32]) {
        let HeadShape { n_kv_heads, d_key, d_value } = self.shape;
        let (key_lanes, value_lanes) = (self.shape.key_lanes(), self.shape.value_lanes());
        let (key_width, value_width) = (n_kv_heads * d_key, n_kv_heads * d_value);
        let lanes = Arc::make_mut(&mut self.blocks[block]);
        for (head, lanes) in lanes.chunks_exact_mut(self.shape.head_lanes()).enumerate() {
            let (to_keys, to_values) = lanes.split_at_mut(key_lanes);
            for (d, to) in values_mut(to_keys).chunks_exact_mut(BLOCK).enumerate() {
                let tokens = keys.chunks_exact(key_width).map(|key| key[head * d_key + d]);
                to[from..].iter_mut().zip(tokens).for_each(|(to, key)| *to = L::value(key));
            }
            let to = values_mut(to_values).chunks_exact_mut(value_lanes * LANES).skip(from);
            for (to, value) in to.zip(values.chunks_exact(value_width)) {
                let value = &value[head * d_value..][..d_value];
                to.iter_mut().zip(value).for_each(|(to, &value)| *to = L::value(value));
            }
        }
    }

    /// Keys `[d_key, 64]` and values `[64, d_value]` of a block in one head, the values padded to whole lanes.
    pub(super) fn block(&self, block: usize, head: usize) -> (&[L], &[L]) {
        let head_lanes = self.shape.head_lanes();
        let lanes = &self.blocks[block][head * head_lanes..][..head_lanes];
        lanes.split_at(self.shape.key_lanes())
    }
}

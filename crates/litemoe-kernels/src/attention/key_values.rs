use litemoe_core::CacheDtype;

use super::blocks::{Blocks, HeadShape};
use super::lanes::{Bf16Lanes, Lanes};

/// Keys and values of one text in one layer (KV cache), in blocks of 64 tokens (arXiv 2309.06180): a new token moves
/// none of those before it, and clones share the blocks that neither has written since.
#[derive(Debug, Clone)]
pub struct KeyValues(pub(super) Stored);

/// Blocks in a number format.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    F32(Blocks<Lanes>),
    Bf16(Blocks<Bf16Lanes>),
}

impl KeyValues {
    /// No tokens. bf16 stores the nearest values, of which products and sums are in f32.
    pub fn new(n_kv_heads: usize, d_key: usize, d_value: usize, dtype: CacheDtype) -> Self {
        let shape = HeadShape { n_kv_heads, d_key, d_value };
        Self(match dtype {
            CacheDtype::F32 => Stored::F32(Blocks::new(shape)),
            CacheDtype::Bf16 => Stored::Bf16(Blocks::new(shape)),
        })
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        match &self.0 {
            Stored::F32(blocks) => blocks.len(),
            Stored::Bf16(blocks) => blocks.len(),
        }
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in bytes; blocks that clones share count for each of them.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Stored::F32(blocks) => blocks.bytes(),
            Stored::Bf16(blocks) => blocks.bytes(),
        }
    }

    pub(super) fn shape(&self) -> HeadShape {
        match &self.0 {
            Stored::F32(blocks) => blocks.shape,
            Stored::Bf16(blocks) => blocks.shape,
        }
    }

    /// As [`Blocks::write`].
    pub(super) fn write(&mut self, held: usize, keys: &[f32], values: &[f32]) {
        match &mut self.0 {
            Stored::F32(blocks) => blocks.write(held, keys, values),
            Stored::Bf16(blocks) => blocks.write(held, keys, values),
        }
    }
}

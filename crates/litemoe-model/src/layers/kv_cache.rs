use burn::tensor::{Tensor, s};
use litemoe_core::CacheDtype;
use litemoe_kernels::KeyValues;

/// KV cache: keys and values of one row's tokens so far, in every block.
#[derive(Debug, Clone)]
pub struct KvCache {
    len: usize,
    pub(crate) blocks: Vec<BlockCache>,
}

impl KvCache {
    pub(crate) fn new(n_blocks: usize, dtype: CacheDtype) -> Self {
        let block = BlockCache { dtype, ..BlockCache::default() };
        Self { len: 0, blocks: vec![block; n_blocks] }
    }

    /// Cached tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps the first `len` tokens and drops the others.
    ///
    /// # Panics
    /// When fewer are cached.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "{len} tokens wanted of {}", self.len);
        self.len = len;
    }

    /// Memory in bytes, room to grow included.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(BlockCache::bytes).sum()
    }

    /// Counts `n` tokens that every block has stored.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }
}

/// Keys and values of one block, as the attention that wrote them reads them.
#[derive(Debug, Clone, Default)]
enum Kept {
    #[default]
    Nothing,
    /// Keys and values for plain tensor operations.
    Buffers(Box<[GrowingBuffer; 2]>),
    /// For the attention kernel.
    Blocks(KeyValues),
}

/// KV cache of one block.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockCache {
    /// Number format of [`Kept::Blocks`].
    dtype: CacheDtype,
    kept: Kept,
    /// Cross-attention keys and values of the encoder's tokens.
    pub(crate) memory: Option<(Tensor<4>, Tensor<4>)>,
}

impl BlockCache {
    fn bytes(&self) -> u64 {
        let of = |tensor: &Tensor<4>| (tensor.shape().num_elements() * size_of::<f32>()) as u64;
        let kept = match &self.kept {
            Kept::Nothing => 0,
            Kept::Buffers(buffers) => {
                buffers.iter().filter_map(|buffer| buffer.buffer.as_ref()).map(of).sum()
            }
            Kept::Blocks(blocks) => blocks.bytes(),
        };
        let memory = self.memory.iter().map(|(keys, values)| of(keys) + of(values)).sum::<u64>();
        kept + memory
    }

    /// Writes keys and values after the first `held` tokens and returns all up to there.
    ///
    /// # Shapes
    /// `[1, tokens, n_kv_heads, d_head]`
    ///
    /// # Panics
    /// When [`Self::extend_blocks`] wrote the first `held` tokens, and there are some.
    pub(crate) fn extend(
        &mut self,
        held: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        if held == 0 {
            self.kept = Kept::Buffers(Box::default());
        }
        let Kept::Buffers(buffers) = &mut self.kept else {
            panic!("tokens cached without autodiff cannot be continued with it");
        };
        let [old_keys, old_values] = &mut **buffers;
        (old_keys.extend(held, keys), old_values.extend(held, values))
    }

    /// As [`Self::extend`], for the attention kernel.
    ///
    /// # Panics
    /// When [`Self::extend`] wrote the first `held` tokens, and there are some.
    pub(crate) fn extend_blocks(
        &mut self,
        held: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> &KeyValues {
        let ([_, n, heads, d_key], [.., d_value]) = (keys.dims(), values.dims());
        if held == 0 {
            self.kept = Kept::Blocks(KeyValues::new(heads, d_key, d_value, self.dtype));
        }
        let Kept::Blocks(blocks) = &mut self.kept else {
            panic!("tokens cached with autodiff cannot be continued without it");
        };
        let (keys, values) =
            (keys.reshape([n, heads * d_key]), values.reshape([n, heads * d_value]));
        blocks.extend(held, keys, values);
        blocks
    }
}

/// Buffer with room to grow along dimension 1, so that a token costs no copy of those before it.
#[derive(Debug, Clone, Default)]
struct GrowingBuffer {
    buffer: Option<Tensor<4>>,
}

impl GrowingBuffer {
    fn extend(&mut self, held: usize, new: Tensor<4>) -> Tensor<4> {
        let [_, n, heads, width] = new.dims();
        let end = held + n;
        // Taken out, so that the buffer has one owner and is updated in context.
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.dims()[1] >= end => buffer,
            small => {
                let room = Tensor::zeros(
                    [1, end.next_power_of_two().max(64), heads, width],
                    &new.device(),
                );
                match small {
                    Some(small) => room.slice_assign(
                        s![.., 0..held, .., ..],
                        small.slice(s![.., 0..held, .., ..]),
                    ),
                    None => room,
                }
            }
        };
        let buffer = buffer.slice_assign(s![.., held..end, .., ..], new);
        self.buffer = Some(buffer.clone());
        buffer.slice(s![.., 0..end, .., ..])
    }
}

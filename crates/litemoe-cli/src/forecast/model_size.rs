use std::collections::BTreeMap;

use litemoe_core::{CacheDtype, LayerId, Stack, WeightDtype};
use litemoe_kernels::HiddenAct;
use litemoe_model::{AttentionConfig, Checkpoint, FeedForwardConfig, MoeConfig, Part, RouterKind};

/// Tokens of a block of the KV cache.
const CACHE_BLOCK: usize = 64;

/// The attention kernel pads a head's values to whole vectors.
const LANES: usize = 16;

/// Dimensions of a model that memory and time depend on.
#[derive(Debug, Clone)]
pub(crate) struct ModelSize {
    /// Values of all weights.
    pub(super) weights: f64,
    /// Bytes of all weights in memory.
    pub(super) loaded: f64,
    /// Bytes of the weights outside the blocks that a token passes through: the head and the final norm.
    pub(super) loaded_end: f64,
    /// Whether weights are packed.
    pub(super) packed: bool,
    pub(super) d_model: f64,
    pub(super) vocab: f64,
    pub(super) n_heads: f64,
    /// Whether attention is a kernel, which makes no matrix of scores: on the CPU, without relative position biases.
    pub(super) fused_attention: bool,
    /// Width of all heads' queries, and of keys and values together.
    pub(super) d_queries: f64,
    pub(super) d_keys_values: f64,
    /// Blocks with a KV cache, and values of a token in one.
    pub(super) n_cached: f64,
    pub(super) d_cached: f64,
    pub(super) cache_dtype: CacheDtype,
    pub(super) blocks: Vec<BlockSize>,
}

/// Dimensions of a block.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockSize {
    /// Values of all weights.
    pub(super) weights: f64,
    /// Values of the weights of one routed expert.
    pub(super) expert: f64,
    /// Bytes of all weights in memory, and of those of one routed expert.
    pub(super) loaded: f64,
    pub(super) loaded_expert: f64,
    /// Routed experts, experts per token, and intermediate width of one; 0 without experts.
    pub(super) n_experts: f64,
    pub(super) top_k: f64,
    pub(super) d_expert: f64,
    /// Whether the mixture of experts is one operation, which keeps less for the backward pass.
    pub(super) fused_experts: bool,
    /// Intermediate width of dense MLP or shared expert.
    pub(super) d_dense: f64,
}

impl BlockSize {
    /// Values of the weights that one token passes through.
    pub(super) fn active(&self) -> f64 {
        self.weights - (self.n_experts - self.top_k) * self.expert
    }

    /// Bytes of the weights that one token passes through.
    pub(super) fn loaded_active(&self) -> f64 {
        self.loaded - (self.n_experts - self.top_k) * self.loaded_expert
    }
}

impl ModelSize {
    /// The model with its weights in memory in a format.
    pub(crate) fn of(checkpoint: &Checkpoint, dtype: WeightDtype) -> Self {
        let config = checkpoint.config();
        let AttentionConfig { n_heads, n_kv_heads, d_head, latent, .. } = &config.attention;
        let d_value = latent.map_or(*d_head, |latent| latent.d_value);
        // Encoder–decoders have relative position biases.
        let fused_attention = cfg!(feature = "flex") && config.encoder.is_empty();
        let d_cached_value =
            if fused_attention { d_value.next_multiple_of(LANES) } else { d_value };
        let (mut blocks, mut weights) = (BTreeMap::<LayerId, BlockSize>::new(), 0.0);
        let mut experts = BTreeMap::<LayerId, f64>::new();
        for stored in checkpoint.stored_parts() {
            let values = stored.parameters as f64;
            weights += values;
            let Some(block) = stored.block else { continue };
            blocks.entry(block).or_default().weights += values;
            if stored.part == Part::Experts {
                *experts.entry(block).or_default() += values;
            }
        }
        let (mut loaded, mut loaded_end, mut embedding, mut has_head) = (0.0, 0.0, 0.0, false);
        for ((block, part), bytes) in checkpoint.loaded_bytes(dtype) {
            let bytes = bytes as f64;
            loaded += bytes;
            match (block, part) {
                (Some(block), _) => blocks.entry(block).or_default().loaded += bytes,
                (None, Part::Embedding) => embedding += bytes,
                (None, part) => {
                    has_head |= part == Part::Head;
                    loaded_end += bytes;
                }
            }
        }
        loaded_end += if has_head { 0.0 } else { embedding };
        for layer in checkpoint.moe_layers() {
            let block = blocks.entry(layer.id).or_default();
            block.n_experts = layer.n_experts as f64;
            block.top_k = layer.top_k as f64;
            block.d_expert = layer.d_expert as f64;
            let of_layer = experts.get(&layer.id).copied().unwrap_or_default();
            block.expert = of_layer / block.n_experts;
            block.loaded_expert = checkpoint.loaded_expert_bytes(layer.id, dtype) as f64;
        }
        for (id, block) in &mut blocks {
            let stack = match id.stack {
                Stack::Encoder => &config.encoder,
                Stack::Decoder => &config.feed_forward,
            };
            block.d_dense = match stack.get(id.block) {
                Some(FeedForwardConfig::Dense(dense)) => dense.d_hidden as f64,
                Some(FeedForwardConfig::Moe(moe)) => moe.shared.unwrap_or(0) as f64,
                _ => 0.0,
            };
            block.fused_experts = match stack.get(id.block) {
                Some(FeedForwardConfig::Moe(moe)) => fuses_experts(moe),
                _ => false,
            };
        }
        Self {
            weights,
            loaded,
            loaded_end,
            packed: dtype != WeightDtype::F32,
            d_model: config.d_model as f64,
            vocab: config.vocab as f64,
            n_heads: *n_heads as f64,
            fused_attention,
            d_queries: (n_heads * d_head) as f64,
            d_keys_values: (n_kv_heads * (d_head + d_value)) as f64,
            n_cached: config.feed_forward.len() as f64,
            d_cached: (n_kv_heads * (d_head + d_cached_value)) as f64,
            cache_dtype: CacheDtype::F32,
            blocks: blocks.into_values().collect(),
        }
    }

    /// The model with keys and values in a format.
    #[must_use]
    pub(crate) fn cached_as(self, cache_dtype: CacheDtype) -> Self {
        Self { cache_dtype, ..self }
    }

    /// The model with at most `kept` experts in each layer.
    #[must_use]
    pub(crate) fn keeping(&self, kept: usize) -> Self {
        let mut proxy = self.clone();
        for block in &mut proxy.blocks {
            let removed = (block.n_experts - kept as f64).max(0.0);
            block.weights -= removed * block.expert;
            proxy.weights -= removed * block.expert;
            block.loaded -= removed * block.loaded_expert;
            proxy.loaded -= removed * block.loaded_expert;
            block.n_experts = block.n_experts.min(kept as f64);
        }
        proxy
    }

    /// Bytes of the weights in memory.
    pub(crate) fn loaded(&self) -> u64 {
        self.loaded as u64
    }

    /// Bytes of the keys and values of a text of `context` tokens: in blocks for the attention kernel, else in buffers
    /// with room for a power of two.
    pub(crate) fn cache(&self, context: usize) -> u64 {
        let room = match self.fused_attention {
            true => context.next_multiple_of(CACHE_BLOCK),
            false => context.next_power_of_two().max(CACHE_BLOCK),
        };
        (self.cached_bytes() * self.d_cached * room as f64) as u64
    }

    /// Bytes that a decode step reads: the weights that a token passes through, and keys and values of `context` tokens.
    pub(crate) fn decoded(&self, context: usize) -> f64 {
        let weights: f64 = self.blocks.iter().map(BlockSize::loaded_active).sum();
        let cached = self.cached_bytes() * self.d_keys_values * context as f64;
        weights + self.loaded_end + cached
    }

    /// Bytes of a cached value in all blocks.
    fn cached_bytes(&self) -> f64 {
        self.cache_dtype.bytes() as f64 * self.n_cached
    }

    /// Values of the largest block's weights.
    pub(super) fn largest_block(&self) -> f64 {
        self.blocks.iter().map(|block| block.weights).fold(0.0, f64::max)
    }

    /// The largest of a value of the blocks.
    pub(super) fn most(&self, of: impl Fn(&BlockSize) -> f64) -> f64 {
        self.blocks.iter().map(of).fold(0.0, f64::max)
    }
}

/// Whether litemoe-kernels has one operation for the mixture of these experts.
fn fuses_experts(moe: &MoeConfig) -> bool {
    let is_swiglu = moe.network.gated && moe.network.act == HiddenAct::Silu;
    is_swiglu && !moe.biased && !matches!(moe.router, RouterKind::InputSigmoid)
}

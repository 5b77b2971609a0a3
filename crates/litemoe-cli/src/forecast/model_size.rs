use std::collections::BTreeMap;

use litemoe_core::LayerId;
use litemoe_model::{AttentionConfig, Checkpoint, FeedForwardConfig, Part};

/// Dimensions of a model that memory and time depend on.
#[derive(Debug, Clone)]
pub(crate) struct ModelSize {
    /// Values of all weights.
    pub(super) weights: f64,
    pub(super) d_model: f64,
    pub(super) vocab: f64,
    pub(super) n_heads: f64,
    /// Width of all heads' queries, and of keys and values together.
    pub(super) d_queries: f64,
    pub(super) d_keys_values: f64,
    pub(super) blocks: Vec<BlockSize>,
}

/// Dimensions of a block.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockSize {
    /// Values of all weights.
    pub(super) weights: f64,
    /// Values of the weights of one routed expert.
    pub(super) expert: f64,
    /// Routed experts, experts per token, and intermediate width of one; 0 without experts.
    pub(super) n_experts: f64,
    pub(super) top_k: f64,
    pub(super) d_expert: f64,
    /// Intermediate width of dense MLP or shared expert.
    pub(super) d_dense: f64,
}

impl BlockSize {
    /// Values of the weights that one token passes through.
    pub(super) fn active(&self) -> f64 {
        self.weights - (self.n_experts - self.top_k) * self.expert
    }
}

impl ModelSize {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let config = checkpoint.config();
        let AttentionConfig { n_heads, n_kv_heads, d_head, latent, .. } = &config.attention;
        let d_value = latent.map_or(*d_head, |latent| latent.d_value);
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
        for layer in checkpoint.moe_layers() {
            let block = blocks.entry(layer.id).or_default();
            block.n_experts = layer.n_experts as f64;
            block.top_k = layer.top_k as f64;
            block.d_expert = layer.d_expert as f64;
            let of_layer = experts.get(&layer.id).copied().unwrap_or_default();
            block.expert = of_layer / block.n_experts;
        }
        for (id, block) in &mut blocks {
            let stack = match id.stack {
                litemoe_core::Stack::Encoder => &config.encoder,
                litemoe_core::Stack::Decoder => &config.feed_forward,
            };
            block.d_dense = match stack.get(id.block) {
                Some(FeedForwardConfig::Dense(dense)) => dense.d_hidden as f64,
                Some(FeedForwardConfig::Moe(moe)) => moe.shared.unwrap_or(0) as f64,
                _ => 0.0,
            };
        }
        Self {
            weights,
            d_model: config.d_model as f64,
            vocab: config.vocab as f64,
            n_heads: *n_heads as f64,
            d_queries: (n_heads * d_head) as f64,
            d_keys_values: (n_kv_heads * (d_head + d_value)) as f64,
            blocks: blocks.into_values().collect(),
        }
    }

    /// The model with at most `kept` experts in each layer.
    #[must_use]
    pub(crate) fn keeping(&self, kept: usize) -> Self {
        let mut proxy = self.clone();
        for block in &mut proxy.blocks {
            let less = block.expert * (block.n_experts - kept as f64).max(0.0);
            block.weights -= less;
            proxy.weights -= less;
            block.n_experts = block.n_experts.min(kept as f64);
        }
        proxy
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

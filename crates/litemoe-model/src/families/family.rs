use litemoe_core::{LayerId, Stack, StackOrder};

use crate::ModelError;
use crate::config::ModelConfig;
use crate::config::read::file::ConfigFile;

/// Model family: how its configuration is read and its tensors are named.
#[derive(Debug)]
pub(crate) struct Family {
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// Reads the keys that change the computation.
    pub(crate) read: fn(&mut ConfigFile) -> Result<ModelConfig, ModelError>,
    /// Keys that are read without a note besides [`INERT`](crate::leftovers::INERT): they do not change the forward
    /// pass.
    pub(crate) harmless: &'static [&'static str],
    /// Keys of the expert count.
    pub(crate) expert_counts: &'static [&'static str],
    /// Tensor names: the first as in released checkpoints, the last as transformers 5 holds them in memory.
    pub(crate) names: &'static [Names],
}

/// Tensor names. Inside a block, `#` is the index of the feed-forward layer, which depends on the stack.
#[derive(Debug)]
pub(crate) struct Names {
    /// Token embedding.
    pub(crate) embedding: &'static str,
    /// Separate embeddings of encoder and decoder, in untied models.
    pub(crate) own_embeddings: [&'static str; 2],
    /// Prefix of a block's number, in encoder and decoder.
    pub(crate) blocks: [&'static str; 2],
    /// Final norms of encoder and decoder.
    pub(crate) final_norms: [&'static str; 2],
    /// Norms before attention and before the feed-forward layer.
    pub(crate) norms: [&'static str; 2],
    /// Attention.
    pub(crate) attention: &'static str,
    /// Query, key, value and output projections of attention.
    pub(crate) projections: [&'static str; 4],
    /// Cross-attention, and the norm before it.
    pub(crate) cross: [&'static str; 2],
    /// Dense MLP.
    pub(crate) dense: &'static str,
    /// Router.
    pub(crate) router: &'static str,
    /// Whether the router is a linear layer in transformers 5, not a module with a bare `weight`.
    pub(crate) linear_router: bool,
    /// Prefix of an expert's number.
    pub(crate) experts: &'static str,
    /// Gate, up and down projections of an expert.
    pub(crate) parts: [&'static str; 3],
    /// Fused expert tensors: gate and up in one, down in the other. transformers 5 holds experts so in memory; some
    /// families' released checkpoints store them so. Bias names end in `_bias`, MXFP4 names in `_blocks` and `_scales`.
    pub(crate) stacks: [&'static str; 2],
    /// Layout of a matrix in a fused tensor.
    pub(crate) stack_order: StackOrder,
    /// Whether a proxy stores fused expert tensors.
    pub(crate) stacked: bool,
    /// Whether expert adapters are written for fused tensors although experts are stored separately: PEFT reads no
    /// others.
    pub(crate) stacked_updates: bool,
    /// Shared expert; its gate's path ends in `_gate`.
    pub(crate) shared: &'static str,
    /// Gate, up and down projections of a dense MLP and of the shared expert.
    pub(crate) dense_parts: [&'static str; 3],
}

impl Names {
    /// The encoder's or the decoder's name.
    pub(crate) fn of(stack: Stack, [encoder, decoder]: [&'static str; 2]) -> &'static str {
        match stack {
            Stack::Encoder => encoder,
            Stack::Decoder => decoder,
        }
    }

    /// Path of a part of a block.
    pub(crate) fn path(&self, block: LayerId, part: &str) -> String {
        let feed_forward = Self::of(block.stack, ["1", "2"]);
        let part = part.replace('#', feed_forward);
        format!("{}{}.{part}", Self::of(block.stack, self.blocks), block.block)
    }

    /// Whether experts are stored only as fused tensors.
    pub(crate) fn stacked_only(&self) -> bool {
        self.stack_order != StackOrder::Rows
    }

    /// Names of Qwen, OLMo and DeepSeek models, and of every family as transformers 5 holds it in memory.
    pub(crate) const MLP: Self = Self {
        embedding: "model.embed_tokens",
        own_embeddings: ["", ""],
        blocks: ["", "model.layers."],
        final_norms: ["", "model.norm"],
        norms: ["input_layernorm", "post_attention_layernorm"],
        attention: "self_attn",
        projections: ["q_proj", "k_proj", "v_proj", "o_proj"],
        cross: ["", ""],
        dense: "mlp",
        router: "mlp.gate",
        linear_router: false,
        experts: "mlp.experts.",
        parts: ["gate_proj", "up_proj", "down_proj"],
        stacks: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        stack_order: StackOrder::Rows,
        stacked: false,
        stacked_updates: false,
        shared: "mlp.shared_expert",
        dense_parts: ["gate_proj", "up_proj", "down_proj"],
    };
}

/// Prefix of the `model_type` of a proxy that only litemoe computes correctly.
pub(crate) const PROXY_PREFIX: &str = "litemoe_";

impl Family {
    /// Tensor names of released checkpoints and of proxies.
    pub(crate) fn released_names(&self) -> &'static Names {
        &self.names[0]
    }

    /// Tensor names of transformers 5 in memory.
    pub(crate) fn held_names(&self) -> &'static Names {
        &self.names[self.names.len() - 1]
    }
}

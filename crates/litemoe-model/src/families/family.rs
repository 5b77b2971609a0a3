use litemoe_core::{LayerId, Stack, StackOrder};

use crate::ModelError;
use crate::config::ModelConfig;
use crate::config::read::file::ConfigFile;

/// What a model type needs beyond its sizes: how its configuration is read and its tensors are named.
#[derive(Debug)]
pub(crate) struct Family {
    /// The `model_type` in its `config.json`.
    pub(crate) model_type: &'static str,
    /// Reads the keys that matter.
    pub(crate) read: fn(&mut ConfigFile) -> Result<ModelConfig, ModelError>,
    /// Keys beside [`HARMLESS`](crate::config::read::decoder::HARMLESS) that change nothing a forward pass computes.
    pub(crate) harmless: &'static [&'static str],
    /// Spellings of the expert count.
    pub(crate) expert_counts: &'static [&'static str],
    /// Paths inside a block, the first as released checkpoints have them, the last as transformers 5 holds them in memory.
    pub(crate) names: &'static [Names],
}

/// Paths of tensors. Inside a block, `#` stands for the number of the feed-forward part, which depends on the stack.
#[derive(Debug)]
pub(crate) struct Names {
    /// The token embedding.
    pub(crate) embedding: &'static str,
    /// Embeddings of encoder and decoder, which models that tie nothing use instead.
    pub(crate) own_embeddings: [&'static str; 2],
    /// What stands before a block's number, in the encoder and in the decoder.
    pub(crate) blocks: [&'static str; 2],
    /// The normalisations at the end of encoder and decoder.
    pub(crate) final_norms: [&'static str; 2],
    /// The normalisations before attention and before the feed-forward part.
    pub(crate) norms: [&'static str; 2],
    /// Attention.
    pub(crate) attention: &'static str,
    /// Queries, keys, values and output in it.
    pub(crate) projections: [&'static str; 4],
    /// A decoder's attention to its encoder, and the normalisation before it.
    pub(crate) cross: [&'static str; 2],
    /// A dense network.
    pub(crate) dense: &'static str,
    /// The router.
    pub(crate) router: &'static str,
    /// What stands before an expert's number.
    pub(crate) experts: &'static str,
    /// Gate, up and down in an expert.
    pub(crate) parts: [&'static str; 3],
    /// Gate and up in one stack of matrices, and down in another: how transformers 5 holds experts in memory, and some
    /// families' released checkpoints too. Biases' names end in `_bias`, those of 4-bit blocks in `_blocks` and `_scales`.
    pub(crate) stacks: [&'static str; 2],
    /// How a matrix lies in a stack.
    pub(crate) stack_order: StackOrder,
    /// Whether a proxy's experts are written so.
    pub(crate) stacked: bool,
    /// Whether an adapter's updates beside experts are written so, although experts are not: PEFT reads no others.
    pub(crate) stacked_updates: bool,
    /// The shared expert; its gate's path ends in `_gate`.
    pub(crate) shared: &'static str,
    /// Gate, up and down in a dense network and in the shared expert.
    pub(crate) dense_parts: [&'static str; 3],
}

impl Names {
    /// Of encoder and decoder names, the one of a stack.
    pub(crate) fn of(stack: Stack, [encoder, decoder]: [&'static str; 2]) -> &'static str {
        match stack {
            Stack::Encoder => encoder,
            Stack::Decoder => decoder,
        }
    }

    /// The path of a part of a block.
    pub(crate) fn path(&self, block: LayerId, part: &str) -> String {
        let feed_forward = Self::of(block.stack, ["1", "2"]);
        let part = part.replace('#', feed_forward);
        format!("{}{}.{part}", Self::of(block.stack, self.blocks), block.block)
    }

    /// Whether experts are never stored one by one.
    pub(crate) fn stacked_only(&self) -> bool {
        self.stack_order != StackOrder::Rows
    }

    /// What qwen's, OLMo's and DeepSeek's models are like, and every family as transformers 5 holds it in memory.
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

/// What stands before the `model_type` of a proxy that only this program computes rightly.
pub(crate) const PROXY_PREFIX: &str = "litemoe_";

impl Family {
    /// How released checkpoints name their tensors, and proxies.
    pub(crate) fn released_names(&self) -> &'static Names {
        &self.names[0]
    }

    /// How transformers 5 names its tensors in memory.
    pub(crate) fn held_names(&self) -> &'static Names {
        &self.names[self.names.len() - 1]
    }
}

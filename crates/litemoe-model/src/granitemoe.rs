//! Granite's mixtures of experts: constant factors along the stream, softmax over the chosen experts.

use crate::config::{AttentionConfig, FeedForwardConfig, ModelConfig, Multipliers, QkNorm};
use crate::config_file::ConfigFile;
use crate::decoder_config::{self, Heads, NUM_LOCAL_EXPERTS};
use crate::family::{Family, Names};
use crate::rope::{RopeConfig, THETA};
use crate::{ModelError, eos};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &[],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[
        Names {
            router: "block_sparse_moe.router.layer",
            stacks: [
                "block_sparse_moe.input_linear.weight",
                "block_sparse_moe.output_linear.weight",
            ],
            stacked: true,
            ..NAMES
        },
        NAMES,
    ],
};

/// As transformers 5 holds it in memory.
const NAMES: Names = Names {
    router: "block_sparse_moe.router",
    experts: "block_sparse_moe.experts",
    stacks: ["block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"],
    ..Names::MLP
};

const MODEL_TYPE: &str = "granitemoe";

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder_config::neutral(config, &[])?;
    decoder_config::silu(config)?;
    let max_tokens = config.optional_size("max_position_embeddings")?.unwrap_or(2048);
    let d_model = config.size("hidden_size")?;
    let Heads { n_heads, n_kv_heads, d_head } = decoder_config::heads(config, d_model)?;
    let [n_experts, top_k] = decoder_config::experts(config, NUM_LOCAL_EXPERTS)?;
    let d_expert = config.size("intermediate_size")?;
    // Softmax over the chosen logits is softmax over all of them, divided by what was chosen.
    let moe =
        FeedForwardConfig::Moe { n_experts, top_k, d_expert, renormalise: true, shared: None };
    let mut factor = |key| Ok(config.optional_positive(key)?.unwrap_or(1.0));
    let multipliers = Multipliers {
        embedding: factor("embedding_multiplier")?,
        residual: factor("residual_multiplier")?,
        logits: 1.0 / factor("logits_scaling")?,
    };
    let scale = Some(factor("attention_multiplier")?);
    Ok(ModelConfig {
        family: MODEL_TYPE,
        vocab: config.size("vocab_size")?,
        d_model,
        norm_eps: config.optional_positive("rms_norm_eps")?.unwrap_or(1e-6),
        tied: config.flag("tie_word_embeddings", false)?,
        multipliers,
        attention: AttentionConfig {
            n_heads,
            n_kv_heads,
            d_head,
            bias: config.flag("attention_bias", false)?,
            bare_output: false,
            qk_norm: QkNorm::None,
            scale,
            clip: None,
            window: None,
            unwindowed: Vec::new(),
            rope: RopeConfig::read(config, MODEL_TYPE, THETA, max_tokens)?,
        },
        feed_forward: vec![moe; decoder_config::n_blocks(config)?],
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
    })
}

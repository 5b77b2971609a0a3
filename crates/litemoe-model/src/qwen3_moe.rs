//! Qwen3-MoE (arXiv 2505.09388): grouped-query attention with normalised heads, softmax → top-k experts.

use crate::config::{AttentionConfig, FeedForwardConfig, ModelConfig, Multipliers, QkNorm};
use crate::config_file::ConfigFile;
use crate::decoder_config::{self, Heads, NUM_EXPERTS};
use crate::family::{Family, Names};
use crate::rope::{RopeConfig, THETA};
use crate::{ModelError, eos};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &["max_window_layers"],
    expert_counts: NUM_EXPERTS,
    names: &[Names::MLP],
};

const MODEL_TYPE: &str = "qwen3_moe";

/// Keys that some exporters write, each with the one value that leaves the maths as it is.
const NEUTRAL: &[(&str, &str)] =
    &[("qkv_bias", "false"), ("shared_expert_intermediate_size", "0"), ("use_qk_norm", "true")];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder_config::neutral(config, NEUTRAL)?;
    decoder_config::silu(config)?;
    let max_tokens = config.optional_size("max_position_embeddings")?.unwrap_or(32_768);
    let d_model = config.size("hidden_size")?;
    let Heads { n_heads, n_kv_heads, d_head } = decoder_config::heads(config, d_model)?;
    let [n_experts, top_k] = decoder_config::experts(config, NUM_EXPERTS)?;
    let moe = FeedForwardConfig::Moe {
        n_experts,
        top_k,
        d_expert: config.size("moe_intermediate_size")?,
        renormalise: config.flag("norm_topk_prob", false)?,
        shared: None,
    };
    Ok(ModelConfig {
        family: MODEL_TYPE,
        vocab: config.size("vocab_size")?,
        d_model,
        norm_eps: config.optional_positive("rms_norm_eps")?.unwrap_or(1e-6),
        tied: config.flag("tie_word_embeddings", false)?,
        multipliers: Multipliers::ONE,
        attention: AttentionConfig {
            n_heads,
            n_kv_heads,
            d_head,
            bias: config.flag("attention_bias", false)?,
            bare_output: false,
            qk_norm: QkNorm::PerHead,
            scale: None,
            clip: None,
            window: read_window(config)?,
            unwindowed: Vec::new(),
            rope: RopeConfig::read(config, MODEL_TYPE, THETA, max_tokens)?,
        },
        feed_forward: decoder_config::sparse_blocks(config, moe)?,
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
    })
}

fn read_window(config: &mut ConfigFile) -> Result<Option<usize>, ModelError> {
    let window = config.optional_size("sliding_window")?;
    let windowed = config.flag("use_sliding_window", false)?;
    let default = if config.fields.contains_key("sliding_window") { None } else { Some(4096) };
    Ok(if windowed { window.or(default) } else { None })
}

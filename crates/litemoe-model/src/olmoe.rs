//! OLMoE (arXiv 2409.02060): attention with queries and keys normalised over all heads, softmax → top-k experts.

use crate::config::{AttentionConfig, FeedForwardConfig, ModelConfig, Multipliers, QkNorm};
use crate::config_file::ConfigFile;
use crate::decoder_config::{self, Heads, NUM_EXPERTS};
use crate::family::{Family, Names};
use crate::rope::{RopeConfig, THETA};
use crate::{ModelError, eos};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &[],
    expert_counts: NUM_EXPERTS,
    names: &[Names::MLP],
};

const MODEL_TYPE: &str = "olmoe";

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder_config::neutral(config, &[])?;
    decoder_config::silu(config)?;
    let max_tokens = config.optional_size("max_position_embeddings")?.unwrap_or(4096);
    let d_model = config.size("hidden_size")?;
    let Heads { n_heads, n_kv_heads, d_head } = decoder_config::heads(config, d_model)?;
    if n_heads * d_head != d_model {
        // The reference's norm is as wide as the residual stream.
        return Err(config.wrong("head_dim", &format!("{} / {n_heads}", d_model)));
    }
    let [n_experts, top_k] = decoder_config::experts(config, NUM_EXPERTS)?;
    let moe = FeedForwardConfig::Moe {
        n_experts,
        top_k,
        d_expert: config.size("intermediate_size")?,
        renormalise: config.flag("norm_topk_prob", false)?,
        shared: None,
    };
    Ok(ModelConfig {
        family: MODEL_TYPE,
        vocab: config.size("vocab_size")?,
        d_model,
        norm_eps: config.optional_positive("rms_norm_eps")?.unwrap_or(1e-5),
        tied: config.flag("tie_word_embeddings", false)?,
        multipliers: Multipliers::ONE,
        attention: AttentionConfig {
            n_heads,
            n_kv_heads,
            d_head,
            bias: config.flag("attention_bias", false)?,
            bare_output: false,
            qk_norm: QkNorm::Projection,
            scale: None,
            clip: config.optional_positive("clip_qkv")?,
            window: None,
            unwindowed: Vec::new(),
            rope: RopeConfig::read(config, MODEL_TYPE, THETA, max_tokens)?,
        },
        feed_forward: vec![moe; decoder_config::n_blocks(config)?],
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
    })
}

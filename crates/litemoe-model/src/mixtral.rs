//! Mixtral (arXiv 2401.04088): grouped-query attention, softmax → top-k experts whose gates sum to 1.

use crate::config::{AttentionConfig, FeedForwardConfig, ModelConfig, Multipliers, QkNorm};
use crate::config_file::ConfigFile;
use crate::decoder_config::{self, Heads, NUM_LOCAL_EXPERTS};
use crate::family::{Family, Names};
use crate::rope::RopeConfig;
use crate::{ModelError, eos};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    // Noise on the hidden state while training; the reference leaves it out otherwise.
    harmless: &["router_jitter_noise"],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[
        Names {
            router: "block_sparse_moe.gate",
            experts: "block_sparse_moe.experts",
            parts: ["w1", "w3", "w2"],
            ..Names::MLP
        },
        Names::MLP,
    ],
};

const MODEL_TYPE: &str = "mixtral";
const THETA: f64 = 1e6;

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder_config::neutral(config, &[])?;
    decoder_config::silu(config)?;
    let max_tokens = config.optional_size("max_position_embeddings")?.unwrap_or(131_072);
    let d_model = config.size("hidden_size")?;
    let Heads { n_heads, n_kv_heads, d_head } = decoder_config::heads(config, d_model)?;
    let [n_experts, top_k] = decoder_config::experts(config, NUM_LOCAL_EXPERTS)?;
    let d_expert = config.size("intermediate_size")?;
    let moe =
        FeedForwardConfig::Moe { n_experts, top_k, d_expert, renormalise: true, shared: None };
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
            bias: false,
            bare_output: false,
            qk_norm: QkNorm::None,
            scale: None,
            clip: None,
            window: config.optional_size("sliding_window")?,
            unwindowed: Vec::new(),
            rope: RopeConfig::read(config, MODEL_TYPE, THETA, max_tokens)?,
        },
        feed_forward: vec![moe; decoder_config::n_blocks(config)?],
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
    })
}

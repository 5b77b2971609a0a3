//! Qwen2-MoE, of which Qwen1.5-MoE is one (arXiv 2407.10671): biased queries, keys and values, softmax → top-k experts, and a
//! shared expert behind a sigmoid.

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

const MODEL_TYPE: &str = "qwen2_moe";

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder_config::neutral(config, &[])?;
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
        shared: Some(config.size("shared_expert_intermediate_size")?),
    };
    let feed_forward = decoder_config::sparse_blocks(config, moe)?;
    let (window, unwindowed) = read_window(config, feed_forward.len())?;
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
            bias: config.flag("qkv_bias", true)?,
            bare_output: true,
            qk_norm: QkNorm::None,
            scale: None,
            clip: None,
            window,
            unwindowed,
            rope: RopeConfig::read(config, MODEL_TYPE, THETA, max_tokens)?,
        },
        feed_forward,
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
    })
}

/// The window, and the blocks that see past it: as listed, else, as the reference has it, all but the even ones of the first
/// `max_window_layers`.
fn read_window(
    config: &mut ConfigFile,
    n_blocks: usize,
) -> Result<(Option<usize>, Vec<usize>), ModelError> {
    let on = config.flag("use_sliding_window", false)?;
    let size: Option<usize> = config.optional("sliding_window", "a whole number")?;
    let first: usize = config.optional("max_window_layers", "a whole number")?.unwrap_or(28);
    let listed: Option<Vec<String>> = config.optional("layer_types", "a list of names")?;
    let is_windowed: Vec<bool> = match listed {
        Some(kinds) => {
            let known = ["sliding_attention", "full_attention"];
            if kinds.len() != n_blocks || kinds.iter().any(|kind| !known.contains(&&**kind)) {
                let expected = format!("{n_blocks} times one of {}", known.join(", "));
                return Err(config.wrong("layer_types", &expected));
            }
            kinds.iter().map(|kind| kind == known[0]).collect()
        }
        None => (0..n_blocks).map(|block| on && block % 2 == 0 && block < first).collect(),
    };
    if !is_windowed.contains(&true) {
        return Ok((None, Vec::new()));
    }
    let window = if on { size.unwrap_or(4096) } else { 0 };
    if window == 0 {
        return Err(config.wrong("sliding_window", "a whole number above 0, used by `layer_types`"));
    }
    let unwindowed = (0..n_blocks).filter(|&block| !is_windowed[block]).collect();
    Ok((Some(window), unwindowed))
}

//! Qwen3-MoE (arXiv 2505.09388): grouped-query attention with normalised heads, softmax → top-k experts.

use crate::ModelError;
use crate::attention_config::QkNorm;
use crate::config::ModelConfig;
use crate::config_file::ConfigFile;
use crate::decoder_config::{self, Defaults, NUM_EXPERTS};
use crate::family::{Family, Names};
use crate::rope::THETA;

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &["max_window_layers"],
    expert_counts: NUM_EXPERTS,
    names: &[Names::MLP],
};

const MODEL_TYPE: &str = "qwen3_moe";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 32_768, norm_eps: 1e-6, theta: THETA, d_head: None };

/// Keys that some exporters write, each with the one value that leaves the maths as it is.
const NEUTRAL: &[(&str, &str)] =
    &[("qkv_bias", "false"), ("shared_expert_intermediate_size", "0"), ("use_qk_norm", "true")];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder_config::neutral(config, NEUTRAL)?;
    let mut model = decoder_config::read(config, MODEL_TYPE, &DEFAULTS)?;
    model.feed_forward = decoder_config::qwen_blocks(config, None)?;
    model.attention.bias = config.flag("attention_bias", false)?;
    model.attention.qk_norm = QkNorm::PerHead;
    model.attention.window = read_window(config)?;
    Ok(model)
}

fn read_window(config: &mut ConfigFile) -> Result<Option<usize>, ModelError> {
    let window = config.optional_size("sliding_window")?;
    let windowed = config.flag("use_sliding_window", false)?;
    let default = if config.has("sliding_window") { None } else { Some(4096) };
    Ok(if windowed { window.or(default) } else { None })
}

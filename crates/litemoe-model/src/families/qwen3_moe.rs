//! Qwen3-MoE (Qwen3 Technical Report, arXiv 2505.09388): GQA with per-head QK norm, softmax top-k gating.

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::read::rope::THETA;
use crate::config::{ModelConfig, QkNorm};
use crate::families::family::{Family, Names};

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

/// Keys of some exporters, each with the one value that leaves the computation unchanged.
const NEUTRAL: &[(&str, &str)] =
    &[("qkv_bias", "false"), ("shared_expert_intermediate_size", "0"), ("use_qk_norm", "true")];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder::neutral(config, NEUTRAL)?;
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    model.feed_forward = decoder::qwen_blocks(config, None)?;
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

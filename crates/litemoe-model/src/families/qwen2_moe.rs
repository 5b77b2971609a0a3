//! Qwen2-MoE, including Qwen1.5-MoE (Qwen2 Technical Report, arXiv 2407.10671): query, key and value biases, softmax
//! top-k gating, shared expert with a sigmoid gate.

use crate::ModelError;
use crate::config::ModelConfig;
use crate::config::read::decoder::{self, Defaults, NUM_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::read::rope::THETA;
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &[],
    expert_counts: NUM_EXPERTS,
    names: &[Names { stacked_updates: true, ..Names::MLP }],
};

const MODEL_TYPE: &str = "qwen2_moe";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 32_768, norm_eps: 1e-6, theta: THETA, d_head: None };

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    let shared = Some(config.size("shared_expert_intermediate_size")?);
    model.feed_forward = decoder::qwen_blocks(config, shared)?;
    let attention = &mut model.attention;
    attention.bias = config.flag("qkv_bias", true)?;
    attention.bare_output = true;
    (attention.window, attention.unwindowed) = read_window(config, model.feed_forward.len())?;
    Ok(model)
}

/// Reads the sliding window, and the blocks with full attention: as listed, else as in the reference, all but the even
/// ones of the first `max_window_layers`.
fn read_window(
    config: &mut ConfigFile,
    n_blocks: usize,
) -> Result<(Option<usize>, Vec<usize>), ModelError> {
    let on = config.flag("use_sliding_window", false)?;
    let size: Option<usize> = config.optional("sliding_window", "a whole number")?;
    let first: usize = config.optional("max_window_layers", "a whole number")?.unwrap_or(28);
    let kinds = ["sliding_attention", "full_attention"];
    let is_windowed = match decoder::layer_types(config, n_blocks, kinds)? {
        Some(listed) => listed,
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

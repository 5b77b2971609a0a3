//! gpt-oss (gpt-oss-120b & gpt-oss-20b Model Card, arXiv 2508.10925): attention sinks, sliding-window attention in
//! every other block, experts with biases and a clamped activation.

use litemoe_core::StackOrder;
use litemoe_kernels::HiddenAct;

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_LOCAL_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig, NetworkConfig, RopeScaling};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    // Original context length, which the RoPE object has too.
    harmless: &["initial_context_length"],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[Names {
        router: "mlp.router",
        stack_order: StackOrder::Interleaved,
        stacked: true,
        ..Names::MLP
    }],
};

const MODEL_TYPE: &str = "gpt_oss";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 131_072, norm_eps: 1e-5, theta: 150_000.0, d_head: Some(64) };

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    read_quantization(config)?;
    let has_rope = |key| config.has(key) && !config.is_null(key);
    let has_rope = has_rope("rope_parameters") || has_rope("rope_scaling");
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    let n_blocks = decoder::n_blocks(config)?;
    let attention = &mut model.attention;
    if let Some(rope) = attention.rope.as_mut().filter(|_| !has_rope) {
        rope.scaling = RopeScaling::yarn(32.0, 4096);
    }
    attention.bias = config.flag("attention_bias", true)?;
    attention.sinks = true;
    let window = config.optional_size("sliding_window")?;
    attention.window = if config.has("sliding_window") { window } else { Some(128) };
    let kinds = ["sliding_attention", "full_attention"];
    let is_windowed = match decoder::layer_types(config, n_blocks, kinds)? {
        Some(listed) => listed,
        None => (0..n_blocks).map(|block| block % 2 == 0).collect(),
    };
    if attention.window.is_none() && is_windowed.contains(&true) {
        return Err(config.wrong("sliding_window", "a whole number above 0, used by `layer_types`"));
    }
    attention.unwindowed = (0..n_blocks).filter(|&block| !is_windowed[block]).collect();
    let moe = read_experts(config)?;
    model.feed_forward = vec![FeedForwardConfig::Moe(moe); n_blocks];
    Ok(model)
}

fn read_experts(config: &mut ConfigFile) -> Result<MoeConfig, ModelError> {
    let counts = decoder::experts(config, NUM_LOCAL_EXPERTS)?;
    let other: Option<usize> = config.optional("experts_per_token", "a whole number")?;
    if other.is_some_and(|other| other != counts[1]) {
        return Err(config.wrong("experts_per_token", &format!("{}, as elsewhere", counts[1])));
    }
    let alpha = config.optional_positive("swiglu_alpha")?.unwrap_or(1.702);
    let limit = config.optional_positive("swiglu_limit")?.unwrap_or(7.0);
    let act = HiddenAct::ClampedSwish { alpha, limit };
    Ok(MoeConfig {
        // Softmax over the top-k logits is the renormalised softmax over all of them.
        renormalise: true,
        router_bias: true,
        network: NetworkConfig { gated: true, act },
        biased: true,
        ..MoeConfig::new(counts, config.size("intermediate_size")?)
    })
}

/// Refuses quantisation other than MXFP4. Tensor names tell which are quantised.
fn read_quantization(config: &mut ConfigFile) -> Result<(), ModelError> {
    let Some(mut quantization) = config.object("quantization_config")? else { return Ok(()) };
    let method: String = quantization.required("quant_method", "a name")?;
    if method != "mxfp4" {
        return Err(quantization.wrong("quant_method", "mxfp4"));
    }
    config.close(quantization, MODEL_TYPE, &["dequantize", "modules_to_not_convert"])
}

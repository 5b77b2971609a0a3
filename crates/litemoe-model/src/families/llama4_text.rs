//! Llama 4 text models: chunked attention, NoPE blocks, sigmoid gates on the experts' inputs.

use litemoe_core::StackOrder;
use serde_json::Value;

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_LOCAL_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig, QkNorm, RouterKind, Temperature};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    // Training noise.
    harmless: &["router_jitter_noise"],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[Names {
        dense: "feed_forward",
        router: "feed_forward.router",
        stacks: ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
        stack_order: StackOrder::Columns,
        stacked: true,
        experts: "feed_forward.experts.",
        shared: "feed_forward.shared_expert",
        ..Names::MLP
    }],
};

const MODEL_TYPE: &str = "llama4_text";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 131_072, norm_eps: 1e-5, theta: 500_000.0, d_head: Some(128) };

/// Other expert layouts.
const NEUTRAL: &[(&str, &str)] = &[("for_llm_compressor", "false")];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder::neutral(config, NEUTRAL)?;
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    let n_blocks = decoder::n_blocks(config)?;
    let is_rotated = read_rotated(config, n_blocks)?;
    let kinds = ["chunked_attention", "full_attention"];
    let is_chunked = match decoder::layer_types(config, n_blocks, kinds)? {
        Some(listed) => listed,
        None => is_rotated.clone(),
    };
    let without = |is: &[bool]| (0..n_blocks).filter(|&block| !is[block]).collect();
    let attention = &mut model.attention;
    attention.bias = config.flag("attention_bias", false)?;
    attention.interleave(true);
    attention.unrotated = without(&is_rotated);
    attention.qk_norm =
        if config.flag("use_qk_norm", true)? { QkNorm::Rotated } else { QkNorm::None };
    attention.temperature = read_temperature(config)?;
    let chunk = config.optional_size("attention_chunk_size")?;
    let chunk = if config.has("attention_chunk_size") { chunk } else { Some(8192) };
    if is_chunked.contains(&true) {
        if chunk.is_none() {
            return Err(config.wrong("attention_chunk_size", "a whole number above 0"));
        }
        attention.chunk = chunk;
        attention.unwindowed = without(&is_chunked);
    }
    model.feed_forward = read_blocks(config, n_blocks)?;
    Ok(model)
}

/// Reads which blocks have RoPE: `no_rope_layers` is 1 for them.
fn read_rotated(config: &mut ConfigFile, n_blocks: usize) -> Result<Vec<bool>, ModelError> {
    let interval = config.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    let expected = format!("a list of {n_blocks} times 0 or 1");
    let listed: Option<Vec<u8>> = config.optional("no_rope_layers", &expected)?;
    let listed = listed.filter(|listed| !listed.is_empty());
    let Some(listed) = listed else {
        return Ok((1..=n_blocks).map(|block| !block.is_multiple_of(interval)).collect());
    };
    if listed.len() < n_blocks || listed.iter().any(|&rotated| rotated > 1) {
        return Err(config.wrong("no_rope_layers", &expected));
    }
    Ok(listed[..n_blocks].iter().map(|&rotated| rotated == 1).collect())
}

fn read_temperature(config: &mut ConfigFile) -> Result<Option<Temperature>, ModelError> {
    // Released configurations write a number for true.
    let on = match config.optional("attn_temperature_tuning", "true or false")? {
        None => true,
        Some(Value::Bool(on)) => on,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => return Err(config.wrong("attn_temperature_tuning", "true or false")),
    };
    let scale: f64 = config.optional("attn_scale", "a number")?.unwrap_or(0.1);
    if !(scale as f32).is_finite() {
        return Err(config.wrong("attn_scale", "a finite number"));
    }
    let floor = config.optional_positive("floor_scale")?.unwrap_or(8192.0);
    Ok(on.then_some(Temperature { scale, floor }))
}

/// MoE blocks, by list or by step; the others are dense.
fn read_blocks(
    config: &mut ConfigFile,
    n_blocks: usize,
) -> Result<Vec<FeedForwardConfig>, ModelError> {
    let counts = decoder::experts(config, NUM_LOCAL_EXPERTS)?;
    let d_expert = config.size("intermediate_size")?;
    let moe = MoeConfig {
        router: RouterKind::InputSigmoid,
        shared: Some(d_expert),
        ungated_shared: true,
        ..MoeConfig::new(counts, d_expert)
    };
    let dense = decoder::dense(config.size("intermediate_size_mlp")?);
    let step = config.optional_size("interleave_moe_layer_step")?.unwrap_or(1);
    let listed: Option<Vec<usize>> = config.optional("moe_layers", "a list of blocks")?;
    let is_moe = |block: usize| match &listed {
        Some(listed) => listed.contains(&block),
        None => (block + 1).is_multiple_of(step),
    };
    let kind = |block| if is_moe(block) { FeedForwardConfig::Moe(moe) } else { dense };
    Ok((0..n_blocks).map(kind).collect())
}

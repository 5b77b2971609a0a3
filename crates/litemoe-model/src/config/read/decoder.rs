//! Configuration keys that the decoder-only families share.

use serde_json::Value;

use crate::ModelError;
use crate::config::read::file::ConfigFile;
use crate::config::read::{eos, rope};
use crate::config::{
    AttentionConfig, DenseConfig, FeedForwardConfig, ModelConfig, MoeConfig, Multipliers,
    NetworkConfig, NormKind, QkNorm,
};

/// Limits far above any model: a larger count is a broken file, and that many tensors would exhaust memory.
pub(crate) const MAX_BLOCKS: usize = 2_000;
pub(crate) const MAX_EXPERTS: usize = 10_000;

/// Keys with the one value that leaves a decoder unchanged.
const NEUTRAL: &[(&str, &str)] =
    &[("is_encoder_decoder", "false"), ("tie_encoder_decoder", "false"), ("pruned_heads", "{}")];

/// Keys of the expert count, the family's own first.
pub(crate) const NUM_EXPERTS: &[&str] = &["num_experts", "num_local_experts"];
pub(crate) const NUM_LOCAL_EXPERTS: &[&str] = &["num_local_experts", "num_experts"];

/// Values of a family for absent keys.
pub(crate) struct Defaults {
    pub(crate) max_tokens: usize,
    pub(crate) norm_eps: f64,
    /// RoPE base.
    pub(crate) theta: f64,
    /// Head width; `None`: `d_model / n_heads`.
    pub(crate) d_head: Option<usize>,
}

/// Reads the shared keys, with plain attention and no feed-forward layers. Each family's `read` adds its own.
pub(crate) fn read(
    config: &mut ConfigFile,
    family: &'static str,
    defaults: &Defaults,
) -> Result<ModelConfig, ModelError> {
    neutral(config, NEUTRAL)?;
    silu(config)?;
    let max_tokens =
        config.optional_size("max_position_embeddings")?.unwrap_or(defaults.max_tokens);
    let d_model = config.size("hidden_size")?;
    let [n_heads, n_kv_heads, d_head] = heads(config, d_model, defaults.d_head)?;
    let rope = rope::read(config, family, defaults.theta, max_tokens)?;
    let max_tokens = max_tokens.min(rope.max_tokens());
    Ok(ModelConfig {
        family,
        vocab: config.size("vocab_size")?,
        d_model,
        norm_eps: config.optional_positive("rms_norm_eps")?.unwrap_or(defaults.norm_eps),
        norm: NormKind::Rms,
        tied: config.flag("tie_word_embeddings", false)?,
        head_bias: false,
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
            window: None,
            chunk: None,
            unwindowed: Vec::new(),
            sinks: false,
            latent: None,
            unrotated: Vec::new(),
            temperature: None,
            rope: Some(rope),
            relative: None,
        },
        feed_forward: Vec::new(),
        encoder: Vec::new(),
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
        extra_blocks: 0,
        start_id: 0,
    })
}

/// Refuses keys of some exporters unless they have the one value that leaves the computation unchanged.
pub(crate) fn neutral(config: &mut ConfigFile, keys: &[(&str, &str)]) -> Result<(), ModelError> {
    for &(key, neutral) in keys {
        let value: Option<Value> = config.optional(key, neutral)?;
        let differs = |value| serde_json::from_str::<Value>(neutral).ok() != Some(value);
        if value.is_some_and(differs) {
            return Err(config.wrong(key, neutral));
        }
    }
    Ok(())
}

/// Refuses activations other than SiLU.
fn silu(config: &mut ConfigFile) -> Result<(), ModelError> {
    let act: Option<String> = config.optional("hidden_act", "a name")?;
    if act.is_some_and(|act| act != "silu") {
        Err(config.wrong("hidden_act", "silu"))
    } else {
        Ok(())
    }
}

/// Reads query heads, key and value heads, and head width. A null `num_key_value_heads` is the number of query heads, a
/// null `head_dim` is `d_model / n_heads`.
fn heads(
    config: &mut ConfigFile,
    d_model: usize,
    d_head: Option<usize>,
) -> Result<[usize; 3], ModelError> {
    let n_heads = config.size("num_attention_heads")?;
    let n_kv_heads = match config.optional_size("num_key_value_heads")? {
        None if config.is_null("num_key_value_heads") => n_heads,
        _ => config.size("num_key_value_heads")?,
    };
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(config.wrong("num_key_value_heads", &format!("a divisor of {n_heads} heads")));
    }
    let is_absent = !config.has("head_dim");
    let d_head = match config.optional_size("head_dim")?.or(d_head.filter(|_| is_absent)) {
        Some(d_head) => d_head,
        None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => return Err(config.wrong("hidden_size", &format!("a multiple of {n_heads} heads"))),
    };
    if !d_head.is_multiple_of(2) {
        return Err(config.wrong("head_dim", "even, for rotary positions"));
    }
    Ok([n_heads, n_kv_heads, d_head])
}

/// Reads the number of blocks.
pub(crate) fn n_blocks(config: &mut ConfigFile) -> Result<usize, ModelError> {
    config.count("num_hidden_layers", MAX_BLOCKS)
}

/// Reads the expert count and top-k.
pub(crate) fn experts(config: &mut ConfigFile, keys: &[&str]) -> Result<[usize; 2], ModelError> {
    let counts = experts_or_none(config, keys)?;
    if counts[0] == 0 {
        let written = keys.iter().find(|key| config.has(key)).unwrap_or(&keys[0]);
        return Err(config.wrong(written, "a whole number above 0"));
    }
    Ok(counts)
}

/// As [`experts`], but allows 0 experts, with any top-k.
fn experts_or_none(config: &mut ConfigFile, keys: &[&str]) -> Result<[usize; 2], ModelError> {
    let n_experts = config.spelled(keys)?.ok_or_else(|| ModelError::MissingKey {
        path: config.path.clone(),
        key: keys.join("` or `"),
    })?;
    if n_experts > MAX_EXPERTS {
        return Err(config.wrong(keys[0], &format!("at most {MAX_EXPERTS}")));
    }
    let top_k = config.size("num_experts_per_tok")?;
    if n_experts > 0 && top_k > n_experts {
        let expected = format!("at most the {n_experts} experts of a layer");
        return Err(config.wrong("num_experts_per_tok", &expected));
    }
    Ok([n_experts, top_k])
}

/// Dense SwiGLU MLP.
pub(crate) fn dense(d_hidden: usize) -> FeedForwardConfig {
    FeedForwardConfig::Dense(DenseConfig { d_hidden, network: NetworkConfig::SWIGLU })
}

/// Reads `layer_types`: whether each block is of kind `kinds[0]` rather than `kinds[1]`; `None` without the key.
pub(crate) fn layer_types(
    config: &mut ConfigFile,
    n_blocks: usize,
    kinds: [&str; 2],
) -> Result<Option<Vec<bool>>, ModelError> {
    let listed: Option<Vec<String>> = config.optional("layer_types", "a list of names")?;
    let Some(listed) = listed else { return Ok(None) };
    if listed.len() != n_blocks || listed.iter().any(|kind| !kinds.contains(&&**kind)) {
        let expected = format!("{n_blocks} times one of {}", kinds.join(", "));
        return Err(config.wrong("layer_types", &expected));
    }
    Ok(Some(listed.iter().map(|kind| kind == kinds[0]).collect()))
}

/// Reads the feed-forward layers of Qwen models: MoE, or dense in some blocks.
pub(crate) fn qwen_blocks(
    config: &mut ConfigFile,
    shared: Option<usize>,
) -> Result<Vec<FeedForwardConfig>, ModelError> {
    let [n_experts, top_k] = experts_or_none(config, NUM_EXPERTS)?;
    let moe = MoeConfig {
        renormalise: config.flag("norm_topk_prob", false)?,
        shared,
        ..MoeConfig::new([n_experts, top_k], config.size("moe_intermediate_size")?)
    };
    let n_blocks = n_blocks(config)?;
    let step = config.optional_size("decoder_sparse_step")?.unwrap_or(1);
    let listed: Vec<usize> =
        config.optional("mlp_only_layers", "a list of blocks")?.unwrap_or_default();
    let dense = dense(config.size("intermediate_size")?);
    let is_moe = |block| n_experts > 0 && !listed.contains(&block) && (block + 1) % step == 0;
    let kind = |block| if is_moe(block) { FeedForwardConfig::Moe(moe) } else { dense };
    Ok((0..n_blocks).map(kind).collect())
}

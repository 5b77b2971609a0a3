//! Qwen3-MoE (arXiv 2505.09388): grouped-query attention with normalised heads, softmax → top-k experts.

use crate::config::{AttentionConfig, FeedForwardConfig, ModelConfig};
use crate::config_file::ConfigFile;
use crate::family::{Family, Names};
use crate::rope::RopeConfig;
use crate::{ModelError, eos};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: HARMLESS,
    expert_counts: EXPERT_COUNTS,
    names: Names {
        dense: "mlp",
        router: "mlp.gate",
        experts: "mlp.experts",
        parts: ["gate_proj", "up_proj", "down_proj"],
    },
};

const MODEL_TYPE: &str = "qwen3_moe";
const EXPERT_COUNTS: &[&str] = &["num_experts", "num_local_experts"];

/// Far above any model: a number beyond is a broken file, and asking for so many tensors would exhaust memory.
const MAX_BLOCKS: usize = 2_000;
const MAX_EXPERTS: usize = 10_000;

/// Bookkeeping, training only, or ignored by the reference implementation of this family.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "initializer_range",
    "max_window_layers",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "return_dict",
    "router_aux_loss_coef",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// Keys that some exporters write, each with the one value that leaves the maths as it is.
const NEUTRAL: &[(&str, &str)] = &[
    ("is_encoder_decoder", "false"),
    ("qkv_bias", "false"),
    ("shared_expert_intermediate_size", "0"),
    ("use_qk_norm", "true"),
];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    refuse_unless_neutral(config)?;
    let act: Option<String> = config.optional("hidden_act", "a name")?;
    if act.is_some_and(|act| act != "silu") {
        return Err(config.wrong("hidden_act", "silu"));
    }
    let max_tokens = config.optional_size("max_position_embeddings")?.unwrap_or(32_768);
    let d_model = config.size("hidden_size")?;
    Ok(ModelConfig {
        family: MODEL_TYPE,
        vocab: config.size("vocab_size")?,
        d_model,
        norm_eps: config.optional_positive("rms_norm_eps")?.unwrap_or(1e-6),
        tied: config.flag("tie_word_embeddings", false)?,
        attention: read_attention(config, d_model, max_tokens)?,
        feed_forward: read_feed_forward(config)?,
        max_tokens,
        eos_ids: eos::read(config)?.unwrap_or_default(),
    })
}

fn refuse_unless_neutral(config: &mut ConfigFile) -> Result<(), ModelError> {
    for &(key, neutral) in NEUTRAL {
        let value: Option<serde_json::Value> = config.optional(key, neutral)?;
        let differs =
            |value| serde_json::from_str::<serde_json::Value>(neutral).ok() != Some(value);
        if value.is_some_and(differs) {
            return Err(config.wrong(key, neutral));
        }
    }
    Ok(())
}

fn read_attention(
    config: &mut ConfigFile,
    d_model: usize,
    max_tokens: usize,
) -> Result<AttentionConfig, ModelError> {
    let n_heads = config.size("num_attention_heads")?;
    let n_kv_heads = config.size("num_key_value_heads")?;
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(config.wrong("num_key_value_heads", &format!("a divisor of {n_heads} heads")));
    }
    let d_head = match config.optional_size("head_dim")? {
        Some(d_head) => d_head,
        None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => return Err(config.wrong("hidden_size", &format!("a multiple of {n_heads} heads"))),
    };
    if !d_head.is_multiple_of(2) {
        return Err(config.wrong("head_dim", "even, for rotary positions"));
    }
    let window = config.optional_size("sliding_window")?;
    let windowed = config.flag("use_sliding_window", false)?;
    let default_window =
        if config.fields.contains_key("sliding_window") { None } else { Some(4096) };
    Ok(AttentionConfig {
        n_heads,
        n_kv_heads,
        d_head,
        bias: config.flag("attention_bias", false)?,
        window: if windowed { window.or(default_window) } else { None },
        rope: RopeConfig::read(config, MODEL_TYPE, max_tokens)?,
    })
}

fn read_feed_forward(config: &mut ConfigFile) -> Result<Vec<FeedForwardConfig>, ModelError> {
    let n_blocks = config.count("num_hidden_layers", MAX_BLOCKS)?;
    let step = config.optional_size("decoder_sparse_step")?.unwrap_or(1);
    let listed: Vec<usize> =
        config.optional("mlp_only_layers", "a list of blocks")?.unwrap_or_default();
    let n_experts = config.spelled(EXPERT_COUNTS)?.ok_or_else(|| ModelError::MissingKey {
        path: config.path.clone(),
        key: EXPERT_COUNTS.join("` or `"),
    })?;
    if n_experts > MAX_EXPERTS {
        return Err(config.wrong(EXPERT_COUNTS[0], &format!("at most {MAX_EXPERTS}")));
    }
    let top_k = config.size("num_experts_per_tok")?;
    let d_expert = config.size("moe_intermediate_size")?;
    let d_hidden = config.size("intermediate_size")?;
    let renormalise = config.flag("norm_topk_prob", false)?;
    if n_experts > 0 && top_k > n_experts {
        let expected = format!("at most the {n_experts} experts of a layer");
        return Err(config.wrong("num_experts_per_tok", &expected));
    }
    let is_moe = |block| n_experts > 0 && !listed.contains(&block) && (block + 1) % step == 0;
    let of = |block| match is_moe(block) {
        true => FeedForwardConfig::Moe { n_experts, top_k, d_expert, renormalise },
        false => FeedForwardConfig::Dense { d_hidden },
    };
    Ok((0..n_blocks).map(of).collect())
}

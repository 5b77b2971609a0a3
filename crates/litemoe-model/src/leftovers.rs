//! Leftovers: what the files of a model hold and the model does not use.
//!
//! The rule, the same for tensors and configuration keys. Everything in the files is
//!
//! 1. used by the model, or
//! 2. a leftover, which cannot change the logits of a row of tokens: [`Checkpoint::leftovers`](crate::Checkpoint) names
//!    it, or
//! 3. refused by name.
//!
//! Whatever is not known to be a leftover is refused, even where transformers drops it with a warning: a bias that
//! nothing adds is another model. Known are
//!
//! - tensors by their names: those of [`LeftoverReason`];
//! - entries of a sharded checkpoint index that no shard holds, because only the shards are loaded;
//! - configuration keys that are null or empty, so that they ask for nothing, and, outside nested objects, those whose
//!   names say that they are bookkeeping, token ids or training options ([`is_aside`]).
//!
//! Keys in [`INERT`], and those that a family lists, are read without a note: transformers writes them itself.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;
use serde::Serialize;

/// Something in a model directory that the model does not use, and that cannot change what it computes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Leftover {
    /// Why it changes nothing.
    pub reason: LeftoverReason,
    /// Name of the tensor, or the configuration key.
    pub name: Arc<str>,
}

/// Why a leftover changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeftoverReason {
    /// Configuration key that asks for nothing, or for nothing at inference.
    Key,
    /// Buffer that the configuration determines: RoPE frequencies, position ids, causal masks.
    Buffer,
    /// Scale of a quantised KV cache.
    CacheScale,
    /// Part of a multi-token prediction (MTP) block, which predicts further tokens.
    FurtherTokens,
    /// Part of a vision or audio tower, which text does not pass through.
    Tower,
    /// Part of a head for another output than logits.
    OtherHead,
    /// Copy of the embedding that it is tied to.
    TiedCopy,
    /// Entry of the sharded checkpoint index that no shard holds.
    IndexEntry,
}

impl fmt::Display for LeftoverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "configuration keys without effect",
            Self::Buffer => "buffers that the configuration determines",
            Self::CacheScale => "scales of a quantised KV cache",
            Self::FurtherTokens => "multi-token prediction (MTP)",
            Self::Tower => "a tower for images or sound, which text does not pass through",
            Self::OtherHead => "heads for other outputs than logits",
            Self::TiedCopy => "copies of the tied embedding",
            Self::IndexEntry => "index entries that no shard holds",
        })
    }
}

/// Why an unused tensor is a leftover; `None` if it is none. Blocks `further` are multi-token prediction (MTP) blocks.
pub(crate) fn of_tensor(
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    further: &Range<usize>,
) -> Option<LeftoverReason> {
    if is_in_block(name, further) {
        return Some(LeftoverReason::FurtherTokens);
    }
    let mut modules = name.rsplit('.');
    let leaf = modules.next().unwrap_or_default();
    let parent = modules.next().unwrap_or_default();
    let grandparent = modules.next().unwrap_or_default();
    let is_single = shape.iter().product::<usize>() == 1;
    let is_buffer = match leaf {
        "inv_freq" | "original_inv_freq" | "cos_cached" | "sin_cached" => parent == "rotary_emb",
        "position_ids" => matches!(parent, "" | "embeddings") && is_positions(dtype, shape),
        "bias" => is_attention(parent) && is_mask(shape),
        "masked_bias" => is_attention(parent) && is_single,
        _ => false,
    };
    let is_cache_scale = is_single
        && match (leaf, parent) {
            ("k_scale", "k_proj") | ("v_scale", "v_proj") => is_attention(grandparent),
            ("k_scale" | "v_scale", module) => is_attention(module),
            _ => false,
        };
    let inner = name.strip_prefix("model.").unwrap_or(name);
    match inner.split('.').next().unwrap_or_default() {
        _ if is_buffer => Some(LeftoverReason::Buffer),
        _ if is_cache_scale => Some(LeftoverReason::CacheScale),
        "vision_model"
        | "vision_tower"
        | "visual"
        | "multi_modal_projector"
        | "audio_tower"
        | "audio_projector" => Some(LeftoverReason::Tower),
        "score" | "v_head" => Some(LeftoverReason::OtherHead),
        _ => None,
    }
}

fn is_attention(module: &str) -> bool {
    matches!(module, "attn" | "self_attn" | "attention")
}

/// Position ids, integers `[1, n]`.
fn is_positions(dtype: Dtype, shape: &[usize]) -> bool {
    matches!(dtype, Dtype::I64 | Dtype::I32) && matches!(shape, [1, _])
}

/// Causal mask, `[1, 1, n, n]`.
fn is_mask(shape: &[usize]) -> bool {
    matches!(shape, &[1, 1, rows, columns] if rows == columns)
}

fn is_in_block(name: &str, blocks: &Range<usize>) -> bool {
    let index = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
    index.and_then(|index| index.parse().ok()).is_some_and(|index: usize| blocks.contains(&index))
}

/// Whether a configuration value asks for nothing.
pub(crate) fn is_empty(json: &str) -> bool {
    ["null", "{}", "[]", "\"\""].contains(&json)
}

/// Whether an unread configuration key is a leftover by its name: bookkeeping ([`PRIVATE`], `…_version`, `unsloth_…`), a
/// token id, a training option (dropout, initialisation, coefficients of losses) or the configuration of a tower.
pub(crate) fn is_aside(key: &str) -> bool {
    let begins = ["initializer_", "unsloth_"].iter().any(|start| key.starts_with(start));
    let ends =
        ["_version", "_token_id", "_token_index", "_loss_coef", "vision_config", "audio_config"]
            .iter()
            .any(|end| key.ends_with(end));
    begins || ends || PRIVATE.contains(&key) || is_dropout(key)
}

/// Whether a key is a dropout rate. Models with token dropout (`token_dropout`) scale by it at inference too.
fn is_dropout(key: &str) -> bool {
    let stem = ["_rate", "_prob"].iter().find_map(|end| key.strip_suffix(end)).unwrap_or(key);
    let what = stem.strip_suffix("dropout");
    what.is_some_and(|what| what.is_empty() || what.ends_with('_') && !what.ends_with("token_"))
}

/// Private attributes of configurations that versions of transformers have written.
const PRIVATE: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_internal",
    "_auto_class",
    "_commit_hash",
    "_experts_implementation",
    "_experts_implementation_internal",
    "_flash_attn_2_enabled",
    "_from_auto",
    "_from_model_config",
    "_from_pipeline",
    "_num_labels",
    "_post_init_done",
];

/// Configuration keys that are read without a note: bookkeeping, training only, generation defaults, or unused by the
/// reference implementation of every family here.
pub(crate) const INERT: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward", // computes in chunks
    "cross_attention_hidden_size",
    "decoder_start_token_id", // read in encoder–decoders
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_range",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_by_their_names() {
        let found = |name: &str, shape: &[usize]| of_tensor(name, Dtype::I64, shape, &(2..3));
        for (name, shape, expected) in [
            ("model.layers.0.self_attn.rotary_emb.inv_freq", &[8][..], LeftoverReason::Buffer),
            ("model.rotary_emb.inv_freq", &[8], LeftoverReason::Buffer),
            ("model.layers.0.attn.bias", &[1, 1, 64, 64], LeftoverReason::Buffer),
            ("model.layers.0.attn.masked_bias", &[], LeftoverReason::Buffer),
            ("position_ids", &[1, 64], LeftoverReason::Buffer),
            ("model.embeddings.position_ids", &[1, 64], LeftoverReason::Buffer),
            ("model.layers.0.self_attn.k_scale", &[], LeftoverReason::CacheScale),
            ("model.layers.0.self_attn.attn.v_scale", &[1], LeftoverReason::CacheScale),
            ("model.layers.0.self_attn.k_proj.k_scale", &[1], LeftoverReason::CacheScale),
            ("model.layers.0.self_attn.v_proj.v_scale", &[1], LeftoverReason::CacheScale),
            ("model.layers.2.eh_proj.weight", &[4, 8], LeftoverReason::FurtherTokens),
            ("vision_model.class_embedding", &[4], LeftoverReason::Tower),
            ("model.vision_tower.norm.weight", &[4], LeftoverReason::Tower),
            ("multi_modal_projector.linear_1.weight", &[4, 4], LeftoverReason::Tower),
            ("score.weight", &[2, 4], LeftoverReason::OtherHead),
            ("v_head.summary.bias", &[1], LeftoverReason::OtherHead),
        ] {
            assert_eq!(found(name, shape), Some(expected), "{name}");
        }
        for (name, shape) in [
            ("model.layers.0.self_attn.q_proj.bias", &[4][..]),
            ("model.layers.0.attn.bias", &[4]),
            ("model.layers.0.attn.masked_bias", &[4]),
            ("model.layers.0.mlp.masked_bias", &[]),
            ("model.layers.0.self_attn.q_proj.weight_scale", &[]),
            ("model.layers.0.mlp.experts.0.k_scale", &[]),
            ("model.layers.0.mlp.k_proj.k_scale", &[]),
            ("model.layers.0.self_attn.k_scale", &[64, 64]),
            ("model.layers.0.self_attn.k_scale", &[0]),
            ("model.layers.0.self_attn.k_proj.v_scale", &[]),
            ("model.layers.0.self_attn.q_proj.k_scale", &[]),
            ("model.layers.0.flattn.k_scale", &[]),
            ("model.layers.0.self_attn.position_ids", &[1, 64]),
            ("position_ids", &[64, 64]),
            ("model.layers.1.self_attn.q_norm.weight", &[4]),
            ("model.layers.3.eh_proj.weight", &[4, 8]),
            ("inv_freq", &[4]),
        ] {
            assert_eq!(found(name, shape), None, "{name}");
        }
        assert_eq!(of_tensor("position_ids", Dtype::F32, &[1, 64], &(2..3)), None);
    }

    #[test]
    fn keys_by_their_names() {
        for key in [
            "_commit_hash",
            "_from_model_config",
            "unsloth_fixed",
            "dropout",
            "dropout_rate",
            "resid_dropout",
            "hidden_dropout_prob",
            "encoder_dropout_rate",
            "image_token_id",
            "vision_config",
        ] {
            assert!(is_aside(key), "{key}");
        }
        for key in [
            "use_qk_norm",
            "attn_logit_softcapping",
            "quantization_config",
            "n_dense",
            "_attn_logit_scale",
            "_sliding_window_pattern",
            "attn_dropout_free_scale",
            "dropout_scale",
            "nodropout",
            "dropout_rate_rate",
            "token_dropout",
            "moe_token_dropout",
        ] {
            assert!(!is_aside(key), "{key}");
        }
    }

    #[test]
    fn empty_values() {
        for json in ["null", "{}", "[]", "\"\""] {
            assert!(is_empty(json), "{json}");
        }
        for json in ["0", "false", "{\"bits\":4}", "30.0"] {
            assert!(!is_empty(json), "{json}");
        }
    }
}

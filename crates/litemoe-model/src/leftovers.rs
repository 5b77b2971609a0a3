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
//! - configuration keys that are null or empty, so that they ask for nothing, and keys whose names say that they are
//!   bookkeeping, token ids or training options ([`is_aside`]).
//!
//! Keys in [`INERT`], and those that a family lists, are read without a note: transformers writes them itself.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

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

/// Why an unused tensor of this name is a leftover; `None` if it is none. Blocks `further` are multi-token prediction
/// (MTP) blocks.
pub(crate) fn of_tensor(
    name: &str,
    shape: &[usize],
    further: &Range<usize>,
) -> Option<LeftoverReason> {
    if is_in_block(name, further) {
        return Some(LeftoverReason::FurtherTokens);
    }
    let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let parent = module.rsplit('.').next().unwrap_or_default();
    let is_attention = || module.split('.').any(|word| word.ends_with("attn"));
    let is_buffer = match leaf {
        "inv_freq" | "original_inv_freq" | "cos_cached" | "sin_cached" => parent == "rotary_emb",
        "position_ids" => true,
        "bias" => matches!(parent, "attn" | "attention") && is_mask(shape),
        "masked_bias" => shape.iter().product::<usize>() == 1,
        _ => false,
    };
    let inner = name.strip_prefix("model.").unwrap_or(name);
    match inner.split('.').next().unwrap_or_default() {
        _ if is_buffer => Some(LeftoverReason::Buffer),
        _ if matches!(leaf, "k_scale" | "v_scale") && is_attention() => {
            Some(LeftoverReason::CacheScale)
        }
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

/// Causal mask, `[1, 1, n, n]`.
fn is_mask(shape: &[usize]) -> bool {
    matches!(shape, &[1, 1, rows, columns] if rows == columns)
}

fn is_in_block(name: &str, blocks: &Range<usize>) -> bool {
    let index = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
    index.and_then(|index| index.parse().ok()).is_some_and(|index: usize| blocks.contains(&index))
}

/// Whether an unread configuration key is a leftover: its value asks for nothing, or its name says that it is
/// bookkeeping (`_…`, `…_version`, `unsloth_…`), a token id, a training option (dropout, initialisation, coefficients
/// of losses) or the configuration of a tower.
pub(crate) fn is_aside(key: &str, json: &str) -> bool {
    let is_empty = ["null", "{}", "[]", "\"\""].contains(&json);
    let begins = ["_", "initializer_", "unsloth_"].iter().any(|start| key.starts_with(start));
    let ends =
        ["_version", "_token_id", "_token_index", "_loss_coef", "vision_config", "audio_config"]
            .iter()
            .any(|end| key.ends_with(end));
    is_empty || begins || ends || key.contains("dropout")
}

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
        let found = |name: &str, shape: &[usize]| of_tensor(name, shape, &(2..3));
        for (name, shape, expected) in [
            ("model.layers.0.self_attn.rotary_emb.inv_freq", &[8][..], LeftoverReason::Buffer),
            ("model.rotary_emb.inv_freq", &[8], LeftoverReason::Buffer),
            ("model.layers.0.attn.bias", &[1, 1, 64, 64], LeftoverReason::Buffer),
            ("model.layers.0.attn.masked_bias", &[], LeftoverReason::Buffer),
            ("position_ids", &[1, 64], LeftoverReason::Buffer),
            ("model.layers.0.self_attn.k_scale", &[], LeftoverReason::CacheScale),
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
            ("model.layers.0.self_attn.q_proj.weight_scale", &[]),
            ("model.layers.0.mlp.experts.0.k_scale", &[]),
            ("model.layers.1.self_attn.q_norm.weight", &[4]),
            ("model.layers.3.eh_proj.weight", &[4, 8]),
            ("inv_freq", &[4]),
        ] {
            assert_eq!(found(name, shape), None, "{name}");
        }
    }

    #[test]
    fn keys_by_their_names_and_values() {
        for (key, json) in [
            ("quantization_config", "null"),
            ("layer_scales", "[]"),
            ("_commit_hash", "\"7f3a\""),
            ("unsloth_fixed", "true"),
            ("resid_dropout", "0.1"),
            ("image_token_id", "5"),
            ("vision_config", "{\"a\":1}"),
        ] {
            assert!(is_aside(key, json), "{key}");
        }
        for (key, json) in [
            ("use_qk_norm", "false"),
            ("attn_logit_softcapping", "30.0"),
            ("quantization_config", "{\"bits\":4}"),
            ("n_dense", "0"),
        ] {
            assert!(!is_aside(key, json), "{key}");
        }
    }
}

use litemoe_core::{LayerId, Stack};
use serde::Serialize;

use crate::Checkpoint;
use crate::checkpoint::stored::{StoredDtype, StoredTensor};

/// Model part that a stored tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Token embedding.
    Embedding,
    /// Attention, its inner norms included.
    Attention,
    /// Dense MLPs.
    Dense,
    /// Routers.
    Routers,
    /// Shared experts and their gates.
    SharedExperts,
    /// Routed experts.
    Experts,
    /// RMSNorm or LayerNorm of the residual stream.
    Norms,
    /// LM head; absent with tied embeddings.
    Head,
}

/// Name of the number format of 4-bit blocks and their scales.
pub(crate) const MXFP4: &str = "MXFP4";

/// Stored tensor: name, part and size, without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredPart<'a> {
    /// Name in the checkpoint.
    pub name: &'a str,
    /// Model part.
    pub part: Part,
    /// Block; `None` outside the blocks.
    pub block: Option<LayerId>,
    /// Number format, as safetensors spells it; `MXFP4` for its 4-bit blocks and their scales, `Q8_0` and `Q4_0` in a quantised
    /// checkpoint.
    pub dtype: &'static str,
    /// Number of values.
    pub parameters: u64,
    /// Size in the file, in bytes.
    pub bytes: u64,
}

impl StoredPart<'_> {
    /// Size outside the experts of a proxy, in bytes: quantised tensors are written in bf16.
    fn unquantised_bytes(&self) -> u64 {
        match self.dtype {
            "Q8_0" | "Q4_0" => 2 * self.parameters,
            _ => self.bytes,
        }
    }
}

impl Checkpoint {
    /// All tensors in name order; reads no weights.
    pub fn stored_parts(&self) -> impl Iterator<Item = StoredPart<'_>> {
        self.tensors.iter().map(|(name, tensor)| self.stored_part(name, tensor))
    }

    /// Size of the tensors of a proxy of all experts, in bytes; reads no weights.
    pub fn bytes_in_proxy(&self) -> u64 {
        let others = self.stored_parts().filter(|stored| stored.part != Part::Experts);
        others.map(|stored| stored.unquantised_bytes()).sum::<u64>() + self.expert_bytes()
    }

    pub(crate) fn stored_part<'a>(&self, name: &'a str, tensor: &StoredTensor) -> StoredPart<'a> {
        let is_stack = self.names.stacks.iter().any(|stack| name.contains(stack));
        let is_quantised = tensor.dtype == StoredDtype::U8;
        let values: u64 = tensor.shape.iter().map(|&size| size as u64).product();
        StoredPart {
            name,
            part: if is_stack { Part::Experts } else { part(name) },
            block: block(name),
            dtype: if is_quantised { MXFP4 } else { tensor.dtype.name() },
            parameters: values * if is_quantised { n_values(name) } else { 1 },
            bytes: tensor.range.len() as u64,
        }
    }
}

/// Values per byte of MXFP4 data: 2 in blocks, 0 in scales.
fn n_values(name: &str) -> u64 {
    if name.ends_with("_scales") { 0 } else { 2 }
}

/// Model part by path component: the first one that identifies a part decides, so that `self_attn.q_norm` is attention
/// and `post_attention_layernorm` a norm.
fn part(name: &str) -> Part {
    name.split('.').find_map(part_by_word).unwrap_or(Part::Dense)
}

fn part_by_word(word: &str) -> Option<Part> {
    let word = word.to_ascii_lowercase();
    match &*word {
        "experts" => Some(Part::Experts),
        "gate" | "router" => Some(Part::Routers),
        "lm_head" => Some(Part::Head),
        "shared" => Some(Part::Embedding), // shared by encoder and decoder
        _ if word.starts_with("shared_") => Some(Part::SharedExperts),
        _ if word.contains("norm") => Some(Part::Norms),
        _ if word.contains("embed") => Some(Part::Embedding),
        _ if word.contains("attn") || word.contains("attention") => Some(Part::Attention),
        _ => None,
    }
}

/// Block of a tensor: the first number in its path.
fn block(name: &str) -> Option<LayerId> {
    let block = name.split('.').find_map(|word| word.parse().ok())?;
    let stack = match name.split('.').any(|word| word == "encoder") {
        true => Stack::Encoder,
        false => Stack::Decoder,
    };
    Some(LayerId { stack, block })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind() {
        for (name, expected) in [
            ("model.embed_tokens.weight", Part::Embedding),
            ("shared.weight", Part::Embedding),
            ("lm_head.weight", Part::Head),
            ("model.norm.weight", Part::Norms),
            ("model.layers.3.post_attention_layernorm.weight", Part::Norms),
            ("encoder.block.3.layer.1.layer_norm.weight", Part::Norms),
            ("model.layers.3.self_attn.kv_a_layernorm.weight", Part::Attention),
            ("model.layers.3.self_attn.sinks", Part::Attention),
            ("decoder.block.3.layer.1.EncDecAttention.q.weight", Part::Attention),
            ("model.layers.3.mlp.gate_proj.weight", Part::Dense),
            ("encoder.block.3.layer.1.mlp.wi.weight", Part::Dense),
            ("model.layers.3.mlp.gate.e_score_correction_bias", Part::Routers),
            ("encoder.block.3.layer.1.mlp.router.classifier.weight", Part::Routers),
            ("model.layers.3.mlp.shared_expert_gate.weight", Part::SharedExperts),
            ("model.layers.3.mlp.shared_experts.down_proj.weight", Part::SharedExperts),
            ("model.layers.3.mlp.experts.11.up_proj.weight", Part::Experts),
            ("model.layers.3.mlp.experts.gate_up_proj_bias", Part::Experts),
            ("encoder.block.3.layer.1.mlp.experts.expert_11.wi.weight", Part::Experts),
        ] {
            assert_eq!(part(name), expected, "{name}");
        }
    }

    #[test]
    fn blocks_of_both_stacks() {
        assert_eq!(block("model.layers.3.mlp.experts.11.x"), Some(LayerId::decoder(3)));
        assert_eq!(block("decoder.block.3.layer.1.x"), Some(LayerId::decoder(3)));
        assert_eq!(block("encoder.block.3.layer.1.x"), Some(LayerId::encoder(3)));
        assert_eq!(block("model.norm.weight"), None);
    }
}

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::UnknownName;

/// Stack of transformer blocks: encoder or decoder. Decoder-only models have only the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stack {
    /// The encoder of an encoder–decoder.
    Encoder,
    /// The decoder.
    Decoder,
}

/// Identifier of a mixture-of-experts (MoE) layer: its stack, and its block index in the checkpoint.
///
/// Text form: `3` for decoder block 3, `encoder.3` for encoder block 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId {
    /// The stack.
    pub stack: Stack,
    /// Block index in the checkpoint, from 0.
    pub block: usize,
}

impl LayerId {
    /// A layer of the decoder.
    pub const fn decoder(block: usize) -> Self {
        Self { stack: Stack::Decoder, block }
    }

    /// A layer of the encoder.
    pub const fn encoder(block: usize) -> Self {
        Self { stack: Stack::Encoder, block }
    }

    /// Identifier of one of the layer's experts.
    pub const fn expert(self, expert: usize) -> ExpertId {
        ExpertId { layer: self, expert }
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stack {
            Stack::Encoder => write!(f, "encoder.{}", self.block),
            Stack::Decoder => write!(f, "{}", self.block),
        }
    }
}

impl FromStr for LayerId {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (make, number): (fn(usize) -> Self, _) = match text.strip_prefix("encoder.") {
            Some(number) => (Self::encoder, number),
            None => (Self::decoder, text),
        };
        let layer = number.parse().ok().map(make);
        // Each layer has one spelling: `01` is refused.
        layer.filter(|layer| layer.to_string() == text).ok_or_else(|| UnknownName {
            what: "layer",
            given: text.to_owned(),
            known: "a block's number, or encoder.<number>".to_owned(),
        })
    }
}

impl Serialize for LayerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Identifier of one routed expert of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpertId {
    /// The layer.
    pub layer: LayerId,
    /// Expert index in the layer, from 0.
    pub expert: usize,
}

impl fmt::Display for ExpertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {} expert {}", self.layer, self.expert)
    }
}

/// Projection of an expert's feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpertPart {
    /// Gate projection, `d_model` → `d_expert`, input of the activation; absent in ungated experts.
    Gate,
    /// Up projection, `d_model` → `d_expert`.
    Up,
    /// Down projection, `d_expert` → `d_model`.
    Down,
}

/// Dimensions of a mixture-of-experts (MoE) layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoeLayer {
    /// Identifier of the layer.
    pub id: LayerId,
    /// Number of routed experts.
    pub n_experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Expert groups of group-limited routing; `None` for plain top-k.
    pub groups: Option<ExpertGroups>,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Intermediate size of one expert (neurons).
    pub d_expert: usize,
    /// Bytes of one routed expert in a proxy: in the checkpoint's dtype, or unquantised in bf16.
    pub expert_bytes: u64,
}

/// Expert groups of group-limited routing: the router first selects groups, then experts within them ("DeepSeek-V2: A
/// Strong, Economical, and Efficient Mixture-of-Experts Language Model", arXiv 2405.04434). Groups are contiguous and
/// of equal size; a proxy keeps the same number of experts in each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// Number of groups, a divisor of `n_experts`.
    pub n_groups: usize,
    /// Minimum number of experts to keep per group for the router to work.
    pub min_kept: usize,
}

impl MoeLayer {
    /// Minimum number of experts that a proxy keeps.
    pub fn min_kept(&self) -> usize {
        self.groups.map_or(self.top_k, |groups| groups.n_groups * groups.min_kept)
    }
}

/// Weights of one expert in the checkpoint layout `[out, in]`, in f32.
///
/// A gated expert computes `down(act(gate(x)) * up(x))`, an ungated one `down(act(up(x)))`.
#[derive(Debug, Clone)]
pub struct ExpertWeights {
    /// Gate projection, `[d_expert, d_model]`; `None` in ungated experts.
    pub gate: Option<Tensor<2>>,
    /// Up projection, `[d_expert, d_model]`.
    pub up: Tensor<2>,
    /// Down projection, `[d_model, d_expert]`.
    pub down: Tensor<2>,
    /// Biases of the three projections; few families have them.
    pub biases: Option<ExpertBiases>,
}

/// Biases of an expert's projections, in f32.
#[derive(Debug, Clone)]
pub struct ExpertBiases {
    /// Gate bias, `[d_expert]`; `None` in ungated experts.
    pub gate: Option<Tensor<1>>,
    /// Up bias, `[d_expert]`.
    pub up: Tensor<1>,
    /// Down bias, `[d_model]`.
    pub down: Tensor<1>,
}

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::UnknownName;

/// Which stack of blocks: decoder-only models have a decoder alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stack {
    /// The encoder of an encoder–decoder.
    Encoder,
    /// The decoder.
    Decoder,
}

/// A mixture-of-experts layer: its stack and its block as the checkpoint numbers it.
///
/// In text: `3` for decoder block 3, `encoder.3` for encoder block 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId {
    /// The stack.
    pub stack: Stack,
    /// The block's number in the checkpoint, from 0.
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

    /// One of the layer's experts.
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
        // One spelling for each layer: `01` would be a second.
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

/// One routed expert of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpertId {
    /// The layer.
    pub layer: LayerId,
    /// The expert's index in the layer, from 0.
    pub expert: usize,
}

impl fmt::Display for ExpertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {} expert {}", self.layer, self.expert)
    }
}

/// One of an expert's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpertPart {
    /// From the residual stream to what the activation takes; ungated experts have none.
    Gate,
    /// From the residual stream to the neurons.
    Up,
    /// From the neurons to the residual stream.
    Down,
}

/// The sizes of a mixture-of-experts layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoeLayer {
    /// Which layer.
    pub id: LayerId,
    /// Routed experts.
    pub n_experts: usize,
    /// Experts a token is sent to.
    pub top_k: usize,
    /// Where the router chooses among groups of experts first.
    pub groups: Option<ExpertGroups>,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Neurons of one expert.
    pub d_expert: usize,
    /// Bytes one routed expert takes in the checkpoint's stored dtype.
    pub expert_bytes: u64,
}

/// Equal runs of a layer's experts, of which the router chooses some before it chooses experts (DeepSeek-V2,
/// arXiv 2405.04434). A proxy keeps as many experts of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many there are, a divisor of the experts.
    pub n_groups: usize,
    /// The fewest experts of a group that leave the router enough to choose from.
    pub min_kept: usize,
}

impl MoeLayer {
    /// The fewest experts that a proxy may keep.
    pub fn min_kept(&self) -> usize {
        self.groups.map_or(self.top_k, |groups| groups.n_groups * groups.min_kept)
    }
}

/// The weights of one expert as checkpoints store them, `[out, in]`, in f32.
///
/// A gated expert computes `down(act(gate(x)) * up(x))`, an ungated one `down(act(up(x)))`.
#[derive(Debug, Clone)]
pub struct ExpertWeights {
    /// `[d_expert, d_model]`; absent in ungated experts.
    pub gate: Option<Tensor<2>>,
    /// `[d_expert, d_model]`
    pub up: Tensor<2>,
    /// `[d_model, d_expert]`
    pub down: Tensor<2>,
    /// What is added to the three products; few families have it.
    pub biases: Option<ExpertBiases>,
}

/// What an expert adds to its matrices' products, in f32.
#[derive(Debug, Clone)]
pub struct ExpertBiases {
    /// `[d_expert]`; absent in ungated experts.
    pub gate: Option<Tensor<1>>,
    /// `[d_expert]`
    pub up: Tensor<1>,
    /// `[d_model]`
    pub down: Tensor<1>,
}

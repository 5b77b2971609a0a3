use litemoe_core::{LayerId, Stack};
use serde::Serialize;

use crate::config::{AttentionConfig, FeedForwardConfig};

/// What a checkpoint's configuration says about the model, one spelling of everything.
///
/// Serialised, it holds exactly what changes the maths.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The `model_type`, without a proxy's prefix.
    pub family: &'static str,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// ε of every normalisation.
    pub norm_eps: f64,
    /// How the residual stream is normalised.
    #[serde(skip_serializing_if = "NormKind::is_rms")]
    pub norm: NormKind,
    /// Whether the head is the embedding's transpose where the checkpoint has no head of its own.
    pub tied: bool,
    /// Whether the head has a bias.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub head_bias: bool,
    /// Factors that most families do not have.
    #[serde(skip_serializing_if = "Multipliers::are_one")]
    pub multipliers: Multipliers,
    /// The attention of every block.
    pub attention: AttentionConfig,
    /// What follows the attention in each block, of an encoder–decoder in each of the decoder's.
    pub feed_forward: Vec<FeedForwardConfig>,
    /// The same in an encoder's blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encoder: Vec<FeedForwardConfig>,
    /// The longest row.
    #[serde(skip)]
    pub max_tokens: usize,
    /// The ids that end a text.
    #[serde(skip)]
    pub eos_ids: Vec<u32>,
    /// Blocks beyond these that files may hold: they predict further tokens, and are left out.
    #[serde(skip)]
    pub extra_blocks: usize,
    /// What a decoder begins with where an encoder reads the prompt.
    #[serde(skip)]
    pub start_id: u32,
}

impl ModelConfig {
    /// Whether encoder and decoder embed tokens each in their own way.
    pub(crate) fn embeds_twice(&self) -> bool {
        !self.encoder.is_empty() && !self.tied
    }

    /// The blocks in the order they run, with what follows the attention in them.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (LayerId, &FeedForwardConfig)> {
        let encoder = self.encoder.iter().enumerate().map(|(i, part)| (LayerId::encoder(i), part));
        let decoder = self.feed_forward.iter().enumerate();
        encoder.chain(decoder.map(|(i, part)| (LayerId::decoder(i), part)))
    }

    /// What follows the attention in a block.
    pub(crate) fn feed_forward_of(&self, block: LayerId) -> &FeedForwardConfig {
        match block.stack {
            Stack::Encoder => &self.encoder[block.block],
            Stack::Decoder => &self.feed_forward[block.block],
        }
    }
}

/// How the residual stream is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum NormKind {
    /// By its root mean square (arXiv 1910.07467).
    Rms,
    /// By mean and variance, with a bias (arXiv 1607.06450).
    Layer,
}

impl NormKind {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_rms(&self) -> bool {
        *self == Self::Rms
    }
}

/// Constant factors along the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Multipliers {
    /// Of what the embedding puts in.
    pub embedding: f64,
    /// Of what attention and feed-forward parts add.
    pub residual: f64,
    /// Of the logits.
    pub logits: f64,
}

impl Multipliers {
    pub(crate) const ONE: Self = Self { embedding: 1.0, residual: 1.0, logits: 1.0 };

    fn are_one(&self) -> bool {
        *self == Self::ONE
    }
}

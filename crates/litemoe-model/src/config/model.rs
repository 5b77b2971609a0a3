use litemoe_core::{LayerId, Stack};
use serde::Serialize;

use crate::config::{AttentionConfig, FeedForwardConfig};

/// Model configuration, in one spelling for all families.
///
/// The serialised form holds exactly what changes the computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// `model_type` without a proxy's prefix.
    pub family: &'static str,
    /// Vocabulary size.
    pub vocab: usize,
    /// Width of the residual stream (hidden size).
    pub d_model: usize,
    /// ε of every RMSNorm or LayerNorm outside MLA.
    pub norm_eps: f64,
    /// RMSNorm or LayerNorm of the residual stream.
    #[serde(skip_serializing_if = "NormKind::is_rms")]
    pub norm: NormKind,
    /// Tied embeddings: whether the embedding serves as the head if the checkpoint stores none.
    pub tied: bool,
    /// Whether the LM head has a bias.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub head_bias: bool,
    /// Embedding, residual and logits multipliers; 1 in most families.
    #[serde(skip_serializing_if = "Multipliers::are_one")]
    pub multipliers: Multipliers,
    /// Attention of every block.
    pub attention: AttentionConfig,
    /// Feed-forward layer of each (decoder) block.
    pub feed_forward: Vec<FeedForwardConfig>,
    /// Feed-forward layer of each encoder block; empty in decoder-only models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encoder: Vec<FeedForwardConfig>,
    /// Maximum row length (context length), in tokens.
    #[serde(skip)]
    pub max_tokens: usize,
    /// End-of-sequence (EOS) token ids.
    #[serde(skip)]
    pub eos_ids: Vec<u32>,
    /// Multi-token prediction (MTP) blocks that the files may hold after these; not loaded.
    #[serde(skip)]
    pub extra_blocks: usize,
    /// Decoder start token id of an encoder–decoder.
    #[serde(skip)]
    pub start_id: u32,
}

impl ModelConfig {
    /// Whether encoder and decoder have separate embeddings.
    pub(crate) fn embeds_twice(&self) -> bool {
        !self.encoder.is_empty() && !self.tied
    }

    /// Blocks in execution order, each with its feed-forward layer.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (LayerId, &FeedForwardConfig)> {
        let encoder = self.encoder.iter().enumerate().map(|(i, part)| (LayerId::encoder(i), part));
        let decoder = self.feed_forward.iter().enumerate();
        encoder.chain(decoder.map(|(i, part)| (LayerId::decoder(i), part)))
    }

    /// Feed-forward layer of a block.
    pub(crate) fn feed_forward_of(&self, block: LayerId) -> &FeedForwardConfig {
        match block.stack {
            Stack::Encoder => &self.encoder[block.block],
            Stack::Decoder => &self.feed_forward[block.block],
        }
    }
}

/// Normalisation of the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum NormKind {
    /// RMSNorm (Root Mean Square Layer Normalization, arXiv 1910.07467).
    Rms,
    /// LayerNorm with a bias (Layer Normalization, arXiv 1607.06450).
    Layer,
}

impl NormKind {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_rms(&self) -> bool {
        *self == Self::Rms
    }
}

/// Constant multipliers along the residual stream (muP).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Multipliers {
    /// Embedding multiplier, on the token embeddings.
    pub embedding: f64,
    /// Residual multiplier, on the outputs of attention and feed-forward layers.
    pub residual: f64,
    /// Logits multiplier.
    pub logits: f64,
}

impl Multipliers {
    pub(crate) const ONE: Self = Self { embedding: 1.0, residual: 1.0, logits: 1.0 };

    fn are_one(&self) -> bool {
        *self == Self::ONE
    }
}

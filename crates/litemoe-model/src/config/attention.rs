use serde::Serialize;

use crate::config::RopeConfig;

/// Attention: grouped-query (GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints,
/// arXiv 2305.13245), unless it is [latent](Self::latent).
///
/// Fields added later are not serialised at the value that was implicit before, so that fingerprints stay valid.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AttentionConfig {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Head width of queries and keys.
    pub d_head: usize,
    /// Whether the projections have a bias.
    pub bias: bool,
    /// Whether the output projection has no bias even with `bias`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bare_output: bool,
    /// QK norm.
    #[serde(skip_serializing_if = "QkNorm::is_per_head")]
    pub qk_norm: QkNorm,
    /// Clamps queries, keys and values to `[-clip, clip]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Softmax scale, multiplied with the scores; `None` is `1/√d_head`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Sliding-window attention: tokens that a token attends to, itself included. `None`: no window.
    pub window: Option<usize>,
    /// Chunked attention: tokens attend only within their chunk of this length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
    /// Indices of blocks with full attention despite `window` or `chunk`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwindowed: Vec<usize>,
    /// Attention sink: whether each head has a learnt logit that takes part in the softmax but has no value (Efficient
    /// Streaming Language Models with Attention Sinks, arXiv 2309.17453).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sinks: bool,
    /// Multi-head latent attention (MLA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentConfig>,
    /// NoPE: indices of blocks without RoPE (The Impact of Positional Encoding on Length Generalization in
    /// Transformers, arXiv 2305.19466).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unrotated: Vec<usize>,
    /// Attention temperature tuning of the [NoPE](Self::unrotated) blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// RoPE (rotary position embedding).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope: Option<RopeConfig>,
    /// Relative position bias, instead of RoPE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<RelativeConfig>,
}

impl AttentionConfig {
    /// Whether some block has full attention.
    pub(crate) fn some_see_all(&self) -> bool {
        (self.window.is_none() && self.chunk.is_none()) || !self.unwindowed.is_empty()
    }

    /// Sets whether RoPE pairs are interleaved.
    pub(crate) fn interleave(&mut self, interleaved: bool) {
        if let Some(rope) = &mut self.rope {
            rope.interleaved = interleaved;
        }
    }

    /// Width of the RoPE part of a head.
    pub(crate) fn d_rotated(&self) -> usize {
        self.latent.map_or(self.d_head, |latent| latent.d_rotated)
    }

    /// Head width of values.
    pub(crate) fn d_value(&self) -> usize {
        self.latent.map_or(self.d_head, |latent| latent.d_value)
    }
}

/// Multi-head latent attention (MLA; DeepSeek-V2, arXiv 2405.04434): keys and values are up-projected from one low-rank
/// vector per token; all heads share the RoPE part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatentConfig {
    /// Rank of the query projection; `None`: a full-rank projection of the residual stream.
    pub q_rank: Option<usize>,
    /// Rank of the key–value projection: width of the latent vector.
    pub kv_rank: usize,
    /// Width of the RoPE part of a head; the rest of `d_head` is NoPE.
    pub d_rotated: usize,
    /// Head width of values.
    pub d_value: usize,
}

/// Attention temperature tuning: multiplies queries by `1 + scale · ln(1 + ⌊(position + 1) / floor⌋)` (Scalable-Softmax
/// Is Superior for Attention, arXiv 2501.19399).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Temperature {
    /// Coefficient of the logarithm.
    pub scale: f64,
    /// Positions per step.
    pub floor: f64,
}

/// Relative position bias: a learnt bias per head and distance bucket, added to the scores (T5: Exploring the Limits of
/// Transfer Learning with a Unified Text-to-Text Transformer, arXiv 1910.10683).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RelativeConfig {
    /// Distance buckets.
    pub n_buckets: usize,
    /// Distance from which all share the last bucket.
    pub max_distance: usize,
}

/// QK norm: what the RMSNorm of queries and keys runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum QkNorm {
    /// No QK norm.
    None,
    /// Each head, before RoPE.
    PerHead,
    /// The whole projection, before RoPE.
    Projection,
    /// Each head after RoPE, without weights; NoPE blocks have none.
    Rotated,
}

impl QkNorm {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_per_head(&self) -> bool {
        *self == Self::PerHead
    }
}

use serde::Serialize;

use crate::config::RopeConfig;

/// Attention: grouped-query (arXiv 2305.13245) unless it is [latent](Self::latent).
///
/// Fields that came later are left out of the serialised form where they say what was so before, so that fingerprints last.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AttentionConfig {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads, a divisor of the query heads.
    pub n_kv_heads: usize,
    /// Width of a query's or a key's head.
    pub d_head: usize,
    /// Whether the projections have a bias.
    pub bias: bool,
    /// Whether the output projection has none all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bare_output: bool,
    /// How queries and keys are normalised.
    #[serde(skip_serializing_if = "QkNorm::is_per_head")]
    pub qk_norm: QkNorm,
    /// What queries, keys and values are clamped to, either side of zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// What scores are multiplied by; `None` is `1/√d_head`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// How many tokens back a token sees, itself included; `None` is all.
    pub window: Option<usize>,
    /// Tokens see those of their own chunk of this length alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
    /// The blocks whose tokens see everything all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwindowed: Vec<usize>,
    /// Whether each head has a sink, a score that takes its share of the softmax and brings no value (arXiv 2309.17453).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sinks: bool,
    /// Queries, keys and values through low ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentConfig>,
    /// The blocks whose queries and keys are not rotated: they know no positions (NoPE, arXiv 2305.19466).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unrotated: Vec<usize>,
    /// How these blocks scale queries by position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// The rotary embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope: Option<RopeConfig>,
    /// A bias by distance instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<RelativeConfig>,
}

impl AttentionConfig {
    /// Whether the tokens of some block see everything.
    pub(crate) fn some_see_all(&self) -> bool {
        (self.window.is_none() && self.chunk.is_none()) || !self.unwindowed.is_empty()
    }

    /// Says whether the pairs that are rotated lie side by side.
    pub(crate) fn interleave(&mut self, interleaved: bool) {
        if let Some(rope) = &mut self.rope {
            rope.interleaved = interleaved;
        }
    }

    /// Width of what is rotated.
    pub(crate) fn d_rotated(&self) -> usize {
        self.latent.map_or(self.d_head, |latent| latent.d_rotated)
    }

    /// Width of a value's head.
    pub(crate) fn d_value(&self) -> usize {
        self.latent.map_or(self.d_head, |latent| latent.d_value)
    }
}

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values are made from one small vector per token,
/// and all heads share the part of the key that is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatentConfig {
    /// Width of what queries are made from; `None`: they are made from the stream.
    pub q_rank: Option<usize>,
    /// Width of what keys and values are made from.
    pub kv_rank: usize,
    /// Width of the rotated part of a head, the rest of `d_head` being plain.
    pub d_rotated: usize,
    /// Width of a value's head.
    pub d_value: usize,
}

/// Queries grow with their position: by `1 + scale · ln(1 + ⌊(position + 1) / floor⌋)` (arXiv 2501.19399).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Temperature {
    /// How fast.
    pub scale: f64,
    /// Positions of a step.
    pub floor: f64,
}

/// Scores have a learnt bias for every head and bucket of distances (T5, arXiv 1910.10683).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RelativeConfig {
    /// Buckets of distances.
    pub n_buckets: usize,
    /// The distance from which all are in one bucket.
    pub max_distance: usize,
}

/// What root-mean-square normalisation of queries and keys runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum QkNorm {
    /// There is none.
    None,
    /// Each head, before rotation.
    PerHead,
    /// The whole projection, before rotation.
    Projection,
    /// Each head after rotation, without weights; blocks that do not rotate do not normalise.
    Rotated,
}

impl QkNorm {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_per_head(&self) -> bool {
        *self == Self::PerHead
    }
}

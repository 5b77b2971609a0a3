use serde::Serialize;

use crate::rope::RopeConfig;

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
    /// Whether the head is the embedding's transpose where the checkpoint has no head of its own.
    pub tied: bool,
    /// Factors that most families do not have.
    #[serde(skip_serializing_if = "Multipliers::are_one")]
    pub multipliers: Multipliers,
    /// The attention of every block.
    pub attention: AttentionConfig,
    /// What follows the attention in each block.
    pub feed_forward: Vec<FeedForwardConfig>,
    /// The longest row.
    #[serde(skip)]
    pub max_tokens: usize,
    /// The ids that end a text.
    #[serde(skip)]
    pub eos_ids: Vec<u32>,
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

/// Grouped-query attention with rotary positions.
///
/// Fields that came later are left out of the serialised form where they say what was so before, so that fingerprints last.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AttentionConfig {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads, a divisor of the query heads.
    pub n_kv_heads: usize,
    /// Width of a head.
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
    /// The blocks whose tokens see everything all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwindowed: Vec<usize>,
    /// The rotary embedding.
    pub rope: RopeConfig,
}

impl AttentionConfig {
    /// Whether the tokens of some block see everything.
    pub(crate) fn some_see_all(&self) -> bool {
        self.window.is_none() || !self.unwindowed.is_empty()
    }
}

/// What root-mean-square normalisation of queries and keys, before rotation, runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum QkNorm {
    /// There is none.
    None,
    /// Each head.
    PerHead,
    /// The whole projection.
    Projection,
}

impl QkNorm {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_per_head(&self) -> bool {
        *self == Self::PerHead
    }
}

/// A block's feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum FeedForwardConfig {
    /// One gated network.
    Dense {
        /// Its neurons.
        d_hidden: usize,
    },
    /// Routed experts.
    Moe {
        /// Rows of the router, and experts unless a proxy's plan says otherwise.
        n_experts: usize,
        /// Experts a token is sent to.
        top_k: usize,
        /// Neurons of one expert.
        d_expert: usize,
        /// Whether the chosen probabilities are divided by their sum.
        renormalise: bool,
        /// Neurons of the shared expert, a network that every token goes through, weighted by a sigmoid gate of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        shared: Option<usize>,
    },
}

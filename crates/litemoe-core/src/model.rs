use burn::tensor::{Device, Tensor};

use crate::{ExpertId, ExpertPart, ExpertWeights, Input, LayerId, MoeLayer, Pass, Site, Stream};

/// A frozen linear weight that can have an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSite {
    /// Path of the weight in the checkpoint.
    pub site: Site,
    /// The module it belongs to.
    pub role: LinearRole,
    /// Input width.
    pub d_in: usize,
    /// Output width.
    pub d_out: usize,
    /// The expert stack it belongs to, if adapter files can address one.
    pub stack: Option<ExpertStack>,
    /// Module whose parameter `weight` it is in transformers, if that module is no linear layer: PEFT adapts it by
    /// `target_parameters`.
    pub parameter: Option<Site>,
}

/// Stacked experts of a layer as transformers holds them in memory: two parameters of one module, `gate_up_proj` and
/// `down_proj`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertStack {
    /// Module path, e.g. `model.layers.3.mlp.experts`.
    pub module: Site,
    /// Layout of one expert's matrix in the stack.
    pub order: StackOrder,
    /// Whether PEFT can only adapt the whole stack; otherwise it can also adapt single experts.
    pub only: bool,
}

/// Layout of one expert's matrix in a stack, relative to the single matrix `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackOrder {
    /// `[out, in]`, gate before up.
    Rows,
    /// `[in, out]` (transposed), gate before up.
    Columns,
    /// `[in, out]` (transposed), columns of gate and up alternating.
    Interleaved,
}

/// Role of a linear weight in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearRole {
    /// Attention projection.
    Attention,
    /// Dense feed-forward network or the gate of a shared expert, run for every token.
    Dense,
    /// Router: its outputs are the router logits.
    Router {
        /// The MoE layer.
        layer: LayerId,
    },
    /// Routed expert. Its site is the path of the single expert's matrix; in families that store only stacks it is the
    /// stack's module, the expert index, and `gate_proj`, `up_proj` or `down_proj`.
    Expert {
        /// The expert.
        expert: ExpertId,
        /// The projection.
        part: ExpertPart,
    },
}

impl LinearRole {
    /// Whether the weight belongs to a routed expert.
    pub fn is_expert(self) -> bool {
        self.expert().is_some()
    }

    /// The routed expert and projection, if the weight belongs to one.
    pub fn expert(self) -> Option<(ExpertId, ExpertPart)> {
        match self {
            Self::Expert { expert, part } => Some((expert, part)),
            Self::Attention | Self::Dense | Self::Router { .. } => None,
        }
    }
}

/// Mixture-of-experts (MoE) model.
pub trait MoeModel {
    /// The MoE layers, in execution order.
    fn moe_layers(&self) -> &[MoeLayer];

    /// The frozen linear weights that can have an adapter.
    fn linear_sites(&self) -> &[LinearSite];
}

/// Source of expert weights, read one expert at a time, e.g. a checkpoint that is not loaded.
pub trait ExpertSource {
    /// Error of reading an expert.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The MoE layers, in execution order.
    fn moe_layers(&self) -> &[MoeLayer];

    /// Reads the weights of one expert in f32.
    fn expert(&self, id: ExpertId) -> Result<ExpertWeights, Self::Error>;
}

/// Language model, run step by step: [`embed`](Self::embed), each [`block`](Self::block) in order, then
/// [`head`](Self::head).
///
/// Scoring, tuning and evaluation use only this trait.
pub trait LanguageModel: MoeModel {
    /// Device of the weights.
    fn device(&self) -> Device;

    /// Vocabulary size.
    fn vocab(&self) -> usize;

    /// Maximum row length in tokens; for an encoder–decoder it applies to both sides.
    fn max_tokens(&self) -> usize;

    /// Whether the model has an encoder. [`Input::encoder_rows`] is then required; otherwise it is refused.
    fn has_encoder(&self) -> bool {
        false
    }

    /// Embeds the tokens and starts the residual stream. Rows must not be empty or longer than
    /// [`max_tokens`](Self::max_tokens), and ids must be below [`vocab`](Self::vocab); the same holds for encoder rows.
    fn embed(&self, input: &Input) -> Stream;

    /// Number of blocks, including the encoder's.
    fn n_blocks(&self) -> usize;

    /// Runs block `index`. Encoder blocks come first and leave the decoder's tokens unchanged.
    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream;

    /// Residual multiplier: factor of the attention and feed-forward outputs before they are added to the residual
    /// stream.
    fn residual_multiplier(&self) -> f64 {
        1.0
    }

    /// Frees the weights of the last block, in a model that streams its weights from disk.
    fn release(&self) {}

    /// Language-model head: logits `[n, vocab]` of the last block's hidden states `[n, d_model]`.
    fn head(&self, hidden: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2>;

    /// Embeds the input and runs all blocks, without the head.
    fn stream(&self, input: &Input, pass: &mut Pass<'_>) -> Stream {
        let first = self.embed(input);
        (0..self.n_blocks()).fold(first, |stream, index| self.block(index, stream, pass))
    }

    /// Logits of all decoder tokens, packed, `[tokens, vocab]`.
    fn logits(&self, input: &Input, pass: &mut Pass<'_>) -> Tensor<2> {
        let stream = self.stream(input, pass);
        self.head(stream.decoder(), pass)
    }
}

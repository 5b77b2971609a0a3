use burn::tensor::{Device, Tensor};

use crate::{ExpertId, ExpertPart, ExpertWeights, Input, MoeLayer, Pass, Site, Stream};

/// A frozen linear weight that an adapter can stand beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSite {
    /// Where it stands in the checkpoint.
    pub site: Site,
    /// What it is part of.
    pub role: LinearRole,
    /// Input width.
    pub d_in: usize,
    /// Output width.
    pub d_out: usize,
    /// The stack that it is part of, where adapters' files can name one.
    pub stack: Option<ExpertStack>,
}

/// Where transformers holds the experts of a layer in memory: as two parameters of one module, `gate_up_proj` and
/// `down_proj`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertStack {
    /// The module's path, e.g. `model.layers.3.mlp.experts`.
    pub module: Site,
    /// How a matrix lies in it.
    pub order: StackOrder,
    /// Whether PEFT reads updates beside the stacks alone; else also beside experts one by one.
    pub only: bool,
}

/// How a matrix of an expert, `[out, in]` when it stands alone, lies in a stack of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackOrder {
    /// As it is, gate before up.
    Rows,
    /// Transposed, gate before up.
    Columns,
    /// Transposed, columns of gate and up taking turns.
    Interleaved,
}

/// What a linear weight is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearRole {
    /// Attention.
    Attention,
    /// A feed-forward network that every token goes through.
    Dense,
    /// A routed expert. Its site is the path that it has where experts are stored one by one, or would have: in families
    /// whose checkpoints hold stacks alone, the stacks' module, the expert's number and `gate_proj`, `up_proj` or `down_proj`.
    Expert {
        /// Which expert.
        expert: ExpertId,
        /// Which of its matrices.
        part: ExpertPart,
    },
}

impl LinearRole {
    /// Whether it is a routed expert's.
    pub fn is_expert(self) -> bool {
        self.expert().is_some()
    }

    /// Which routed expert's, and which of its matrices.
    pub fn expert(self) -> Option<(ExpertId, ExpertPart)> {
        match self {
            Self::Expert { expert, part } => Some((expert, part)),
            Self::Attention | Self::Dense => None,
        }
    }
}

/// A model with expert layers.
pub trait MoeModel {
    /// Its mixture-of-experts layers, in the order they run.
    fn moe_layers(&self) -> &[MoeLayer];

    /// The frozen linear weights that an adapter can stand beside.
    fn linear_sites(&self) -> &[LinearSite];
}

/// Where expert weights can be read from, one at a time: a checkpoint, without loading the model.
pub trait ExpertSource {
    /// Why an expert could not be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The mixture-of-experts layers, in the order they run.
    fn moe_layers(&self) -> &[MoeLayer];

    /// Reads one expert's weights in f32.
    fn expert(&self, id: ExpertId) -> Result<ExpertWeights, Self::Error>;
}

/// A language model, drivable in steps.
///
/// Scoring, tuning and evaluation are written against this trait. A pass is [`embed`](Self::embed), every
/// [`block`](Self::block) in order, then [`head`](Self::head).
pub trait LanguageModel: MoeModel {
    /// The device of the weights.
    fn device(&self) -> Device;

    /// Size of the vocabulary.
    fn vocab(&self) -> usize;

    /// The longest row the model accepts, of an encoder–decoder on either side.
    fn max_tokens(&self) -> usize;

    /// Whether an encoder reads the prompt: [`Input::encoder_rows`] are then needed, and else refused.
    fn has_encoder(&self) -> bool {
        false
    }

    /// Starts the residual stream. Rows must be non-empty, within [`max_tokens`](Self::max_tokens), and hold only
    /// ids below [`vocab`](Self::vocab), those of an encoder as well.
    fn embed(&self, input: &Input) -> Stream;

    /// How many blocks there are, an encoder's included.
    fn n_blocks(&self) -> usize;

    /// Runs block `index`. The blocks of an encoder come first, and leave the decoder's tokens as they are.
    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream;

    /// What a block multiplies by what its attention and its feed-forward part add to the stream.
    fn residual_multiplier(&self) -> f64 {
        1.0
    }

    /// Frees what is kept of the block that ran last, of a model whose weights are read when they are used.
    fn release(&self) {}

    /// Logits `[n, vocab]` for `n` positions of the last block's hidden state, `[n, d_model]`.
    fn head(&self, hidden: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2>;

    /// All blocks of a pass, without the head.
    fn stream(&self, input: &Input, pass: &mut Pass<'_>) -> Stream {
        let first = self.embed(input);
        (0..self.n_blocks()).fold(first, |stream, index| self.block(index, stream, pass))
    }

    /// Logits of every token of every row, packed in order, `[tokens, vocab]`.
    fn logits(&self, input: &Input, pass: &mut Pass<'_>) -> Tensor<2> {
        let stream = self.stream(input, pass);
        self.head(stream.decoder(), pass)
    }
}

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::Packing;
use crate::packing::indices;

/// A batch of token rows, ragged: there is no padding to mask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// The decoder's (or only) token ids, a row each.
    pub rows: Vec<Vec<u32>>,
    /// The encoder's token ids, a row each; `None` for decoder-only models.
    pub encoder_rows: Option<Vec<Vec<u32>>>,
}

impl Input {
    /// A batch for a decoder-only model.
    pub fn decoder(rows: Vec<Vec<u32>>) -> Self {
        Self { rows, encoder_rows: None }
    }
}

/// A row as a model takes it.
pub trait TokenRow {
    /// The decoder's (or only) token ids.
    fn tokens(&self) -> &[u32];

    /// The encoder's token ids; `None` for decoder-only models.
    fn encoder(&self) -> Option<&[u32]> {
        None
    }

    /// Which of the tokens the loss covers; `None` for a row without a completion.
    fn completion(&self) -> Option<&[bool]> {
        None
    }
}

impl<T: AsRef<[u32]>> TokenRow for T {
    fn tokens(&self) -> &[u32] {
        self.as_ref()
    }
}

impl TokenRow for Sequence {
    fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn encoder(&self) -> Option<&[u32]> {
        self.encoder.as_deref()
    }

    fn completion(&self) -> Option<&[bool]> {
        Some(&self.completion)
    }
}

/// One example: its token ids, and which of them the loss covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Prompt, completion and end token; of an encoder–decoder the decoder's: start token, completion and end token.
    pub tokens: Vec<u32>,
    /// True for the tokens of the completion and its end token; as long as `tokens`.
    pub completion: Vec<bool>,
    /// The encoder's tokens, the prompt; `None` for decoder-only models.
    pub encoder: Option<Vec<u32>>,
}

impl Sequence {
    /// How many tokens the model runs over.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len() + self.encoder.as_ref().map_or(0, Vec::len)
    }

    /// How many tokens the loss covers.
    pub fn n_completion(&self) -> usize {
        self.completion.iter().filter(|&&covered| covered).count()
    }
}

/// The residual stream between blocks.
#[derive(Debug, Clone)]
pub struct Stream {
    /// `[tokens, d_model]`; of an encoder–decoder the encoder's tokens come first.
    pub hidden: Tensor<2>,
    /// How the tokens lie in rows.
    pub packing: Arc<Packing>,
}

impl Stream {
    /// The same rows with another hidden state.
    pub fn with_hidden(&self, hidden: Tensor<2>) -> Self {
        Self { hidden, packing: self.packing.clone() }
    }

    /// What a head sees when all logits are wanted: without an encoder's tokens.
    pub fn decoder(self) -> Tensor<2> {
        let (before, tokens) = (self.packing.n_before(), self.packing.tokens());
        if before == 0 { self.hidden } else { self.hidden.narrow(0, before, tokens) }
    }

    /// Only the packed tokens with these indices, an encoder's not counted: what a head should see when few logits are
    /// wanted.
    pub fn select(self, tokens: &[usize]) -> Tensor<2> {
        let (device, before) = (self.hidden.device(), self.packing.n_before());
        let tokens = tokens.iter().map(|&token| (before + token) as i64).collect();
        let tokens = indices(tokens, &device);
        self.hidden.select(0, tokens)
    }
}

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::Packing;
use crate::packing::indices;

/// Ragged batch of token rows, without padding or a padding mask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// Token ids of the decoder (or of the only stack), per row.
    pub rows: Vec<Vec<u32>>,
    /// Token ids of the encoder, per row; `None` for decoder-only models.
    pub encoder_rows: Option<Vec<Vec<u32>>>,
}

impl Input {
    /// A batch for a decoder-only model.
    pub fn decoder(rows: Vec<Vec<u32>>) -> Self {
        Self { rows, encoder_rows: None }
    }
}

/// A row of token ids.
pub trait TokenRow {
    /// Token ids of the decoder (or of the only stack).
    fn tokens(&self) -> &[u32];

    /// Token ids of the encoder; `None` for decoder-only models.
    fn encoder(&self) -> Option<&[u32]> {
        None
    }

    /// Completion mask: true for the tokens in the loss; `None` for a row without a completion.
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

/// One training example: token ids and completion mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Prompt, completion and end token; for an encoder–decoder the decoder's start token, completion and end token.
    pub tokens: Vec<u32>,
    /// Completion mask: true for the completion and its end token; same length as `tokens`.
    pub completion: Vec<bool>,
    /// Token ids of the encoder: the prompt. `None` for decoder-only models.
    pub encoder: Option<Vec<u32>>,
}

impl Sequence {
    /// Number of tokens in a forward pass, encoder and decoder.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len() + self.encoder.as_ref().map_or(0, Vec::len)
    }

    /// Number of tokens in the loss.
    pub fn n_completion(&self) -> usize {
        self.completion.iter().filter(|&&covered| covered).count()
    }
}

/// Residual stream between blocks, for packed rows.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Hidden states, `[tokens, d_model]`; in an encoder–decoder the encoder's tokens come first.
    pub hidden: Tensor<2>,
    /// Layout of the packed rows.
    pub packing: Arc<Packing>,
}

impl Stream {
    /// The same stream without what the layout's blocks derived from it, for a batch that waits while others run.
    #[must_use]
    pub fn waiting(self) -> Self {
        Self { packing: Arc::new(self.packing.without_derived()), ..self }
    }

    /// The same rows with other hidden states.
    pub fn with_hidden(&self, hidden: Tensor<2>) -> Self {
        Self { hidden, packing: self.packing.clone() }
    }

    /// Hidden states of all decoder tokens: the head's input for all logits.
    pub fn decoder(self) -> Tensor<2> {
        let (before, tokens) = (self.packing.n_before(), self.packing.tokens());
        if before == 0 { self.hidden } else { self.hidden.narrow(0, before, tokens) }
    }

    /// Hidden states of the decoder tokens at these packed indices: the head's input when only some logits are needed.
    pub fn select(self, tokens: &[usize]) -> Tensor<2> {
        let (device, before) = (self.hidden.device(), self.packing.n_before());
        let tokens = tokens.iter().map(|&token| (before + token) as i64).collect();
        let tokens = indices(tokens, &device);
        self.hidden.select(0, tokens)
    }
}

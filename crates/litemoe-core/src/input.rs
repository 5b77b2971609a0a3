use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

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

/// How the rows of a batch lie in a packed `[tokens, …]` tensor, and how to pad them to `[batch, seq]` and back.
#[derive(Debug, Clone)]
pub struct Packing {
    row_lens: Vec<usize>,
    start: usize,
    pad: Option<(Tensor<1, Int>, Tensor<1, Int>)>,
    encoder: Option<Arc<Packing>>,
}

impl Packing {
    /// Packs rows of the given lengths; the first token of each row has position `start` (non-zero when a cache
    /// holds the tokens before).
    pub fn new(row_lens: Vec<usize>, start: usize, device: &Device) -> Self {
        let seq = row_lens.iter().copied().max().unwrap_or(0);
        let pad = row_lens.iter().any(|&len| len != seq).then(|| {
            let (mut padded, mut packed, mut first) = (Vec::new(), Vec::new(), 0);
            for (row, &len) in row_lens.iter().enumerate() {
                padded.extend((0..seq).map(|i| if i < len { (first + i) as i64 } else { 0 }));
                packed.extend((0..len).map(|i| (row * seq + i) as i64));
                first += len;
            }
            (indices(padded, device), indices(packed, device))
        });
        Self { row_lens, start, pad, encoder: None }
    }

    /// The same rows as a decoder's, packed behind those of its encoder.
    #[must_use]
    pub fn behind(self, encoder: Self) -> Self {
        Self { encoder: Some(Arc::new(encoder)), ..self }
    }

    /// How the encoder's rows lie, which come before these.
    pub fn encoder(&self) -> Option<&Self> {
        self.encoder.as_deref()
    }

    /// How many tokens of the encoder come before these.
    pub fn n_before(&self) -> usize {
        self.encoder().map_or(0, Self::tokens)
    }

    /// The rows' lengths.
    pub fn row_lens(&self) -> &[usize] {
        &self.row_lens
    }

    /// Rows in the batch.
    pub fn batch(&self) -> usize {
        self.row_lens.len()
    }

    /// Length of the longest row.
    pub fn seq(&self) -> usize {
        self.row_lens.iter().copied().max().unwrap_or(0)
    }

    /// Real tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.row_lens.iter().sum()
    }

    /// Position of each row's first token.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Each packed token's position in its row, `tokens` of them.
    pub fn positions(&self) -> Vec<usize> {
        self.row_lens.iter().flat_map(|&len| self.start..self.start + len).collect()
    }

    /// Spreads packed rows out to `[batch * seq, width]`. What stands in the padding is some real row, so a caller
    /// must let no real position look at a padded one: with padding on the right, causal attention does.
    pub fn pad(&self, packed: Tensor<2>) -> Tensor<2> {
        match &self.pad {
            Some((padded, _)) => packed.select(0, padded.clone()),
            None => packed,
        }
    }

    /// Takes the real tokens out of `[batch * seq, width]` again.
    pub fn unpad(&self, padded: Tensor<2>) -> Tensor<2> {
        match &self.pad {
            Some((_, packed)) => padded.select(0, packed.clone()),
            None => padded,
        }
    }
}

fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
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

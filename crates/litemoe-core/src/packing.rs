use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Layout of packed rows (sequence packing): the row boundaries in a packed tensor `[tokens, …]`, and the token
/// positions.
///
/// Rows either begin at position 0 and are padded to a grid `[batch, seq]` for layers that need one, or
/// [continue](Self::continuing) texts with a KV cache each; those stay packed, `[1, tokens]`.
#[derive(Debug, Clone)]
pub struct Packing {
    row_lens: Vec<usize>,
    /// Position of each row's first token, for rows that continue cached texts.
    starts: Option<Vec<usize>>,
    pad: Option<(Tensor<1, Int>, Tensor<1, Int>)>,
    encoder: Option<Arc<Packing>>,
    derived: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl Packing {
    /// Rows of the given lengths, beginning at position 0.
    pub fn new(row_lens: Vec<usize>, device: &Device) -> Self {
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
        Self { row_lens, starts: None, pad, encoder: None, derived: Arc::default() }
    }

    /// Rows that continue cached texts: row `i` has `row_lens[i]` tokens from position `starts[i]`.
    ///
    /// # Panics
    /// When `row_lens` and `starts` differ in length.
    pub fn continuing(row_lens: Vec<usize>, starts: Vec<usize>) -> Self {
        assert_eq!(row_lens.len(), starts.len(), "a start for every row");
        let starts = Some(starts);
        Self { row_lens, starts, pad: None, encoder: None, derived: Arc::default() }
    }

    /// The same rows as a decoder's, packed after the rows of its encoder.
    #[must_use]
    pub fn behind(self, encoder: Self) -> Self {
        Self { encoder: Some(Arc::new(encoder)), ..self }
    }

    /// Layout of the encoder's rows, which come first.
    pub fn encoder(&self) -> Option<&Self> {
        self.encoder.as_deref()
    }

    /// Number of encoder tokens before these rows.
    pub fn n_before(&self) -> usize {
        self.encoder().map_or(0, Self::tokens)
    }

    /// Row lengths in tokens.
    pub fn row_lens(&self) -> &[usize] {
        &self.row_lens
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.row_lens.len()
    }

    /// Length of the longest row.
    pub fn seq(&self) -> usize {
        self.row_lens.iter().copied().max().unwrap_or(0)
    }

    /// Number of tokens in all rows, without padding.
    pub fn tokens(&self) -> usize {
        self.row_lens.iter().sum()
    }

    /// Position of each row's first token, for rows that continue cached texts; `None` when all begin at 0.
    pub fn starts(&self) -> Option<&[usize]> {
        self.starts.as_deref()
    }

    /// Range of packed tokens of each row.
    pub fn row_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.row_lens.iter().scan(0, |end, len| {
            let start = *end;
            *end += len;
            Some(start..*end)
        })
    }

    /// Position of each packed token in its text, `tokens` values.
    pub fn positions(&self) -> Vec<usize> {
        let starts = self.starts.iter().flatten().copied().chain(std::iter::repeat(0));
        self.row_lens.iter().zip(starts).flat_map(|(len, start)| start..start + len).collect()
    }

    /// Shape of the grid that [`Self::pad`] returns: `[batch, seq]`, or `[1, tokens]` for rows that continue cached
    /// texts.
    pub fn grid(&self) -> [usize; 2] {
        match self.starts {
            None => [self.batch(), self.seq()],
            Some(_) => [1, self.tokens()],
        }
    }

    /// Pads packed rows `[tokens, width]` to the grid, `[rows * columns, width]`. Padding goes on the right and repeats
    /// packed token 0, so real positions must not attend to it; a causal mask ensures that.
    pub fn pad(&self, packed: Tensor<2>) -> Tensor<2> {
        match &self.pad {
            Some((padded, _)) => packed.select(0, padded.clone()),
            None => packed,
        }
    }

    /// Removes the padding: the inverse of [`Self::pad`].
    pub fn unpad(&self, padded: Tensor<2>) -> Tensor<2> {
        match &self.pad {
            Some((_, packed)) => padded.select(0, packed.clone()),
            None => padded,
        }
    }

    /// The same layout without [derived](Self::derived) values, of which a batch that waits for its next block needs none.
    #[must_use]
    pub fn without_derived(&self) -> Self {
        let encoder = self.encoder.as_ref().map(|encoder| Arc::new(encoder.without_derived()));
        Self { encoder, derived: Arc::default(), ..self.clone() }
    }

    /// Cache for values that a model derives from the layout, e.g. position tensors: the first block of a pass computes
    /// it, the others reuse it. One value is cached; for another type, `make` runs on every call.
    pub fn derived<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut make = Some(make);
        let mut made = || make.take().map(|make| Arc::new(make()));
        let kept = self.derived.get_or_init(|| made().expect("it was not made before"));
        match kept.clone().downcast() {
            Ok(kept) => kept,
            Err(_) => made().expect("what is kept was made by another"),
        }
    }
}

pub(crate) fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The layout of a batch: how its rows lie in a packed `[tokens, …]` tensor, and which positions their tokens have.
///
/// Rows either begin at position 0 and are padded to a grid `[batch, seq]` where a layer needs one, or each
/// [continues](Self::continuing) a text whose earlier tokens are in a KV cache of its own; these stay packed, `[1, tokens]`.
#[derive(Debug, Clone)]
pub struct Packing {
    row_lens: Vec<usize>,
    /// The position of each row's first token where rows continue cached texts.
    starts: Option<Vec<usize>>,
    pad: Option<(Tensor<1, Int>, Tensor<1, Int>)>,
    encoder: Option<Arc<Packing>>,
    derived: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl Packing {
    /// Rows of the given lengths that begin at position 0.
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
    /// When there are not as many starts as rows.
    pub fn continuing(row_lens: Vec<usize>, starts: Vec<usize>) -> Self {
        assert_eq!(row_lens.len(), starts.len(), "a start for every row");
        let starts = Some(starts);
        Self { row_lens, starts, pad: None, encoder: None, derived: Arc::default() }
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

    /// The position of each row's first token where rows continue cached texts; `None` where all begin at 0.
    pub fn starts(&self) -> Option<&[usize]> {
        self.starts.as_deref()
    }

    /// The packed tokens of each row.
    pub fn row_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.row_lens.iter().scan(0, |end, len| {
            let start = *end;
            *end += len;
            Some(start..*end)
        })
    }

    /// Each packed token's position in its row, `tokens` of them.
    pub fn positions(&self) -> Vec<usize> {
        let starts = self.starts.iter().flatten().copied().chain(std::iter::repeat(0));
        self.row_lens.iter().zip(starts).flat_map(|(len, start)| start..start + len).collect()
    }

    /// Rows and columns of the grid that [`Self::pad`] gives: `[batch, seq]`, of rows that continue cached texts
    /// `[1, tokens]`.
    pub fn grid(&self) -> [usize; 2] {
        match self.starts {
            None => [self.batch(), self.seq()],
            Some(_) => [1, self.tokens()],
        }
    }

    /// Spreads packed rows out to the grid, `[rows * columns, width]`. What is in the padding is some real row, so a caller
    /// must let no real position attend to a padded one: with padding on the right, causal attention does not.
    pub fn pad(&self, packed: Tensor<2>) -> Tensor<2> {
        match &self.pad {
            Some((padded, _)) => packed.select(0, padded.clone()),
            None => packed,
        }
    }

    /// Takes the real tokens out of the grid again.
    pub fn unpad(&self, padded: Tensor<2>) -> Tensor<2> {
        match &self.pad {
            Some((_, packed)) => padded.select(0, packed.clone()),
            None => padded,
        }
    }

    /// What a model derives from the layout, such as the positions' tensors: made by the first block of a pass and kept for
    /// the others. A value of another type is not replaced.
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

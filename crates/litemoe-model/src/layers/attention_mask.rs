use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::Packing;

/// What is added to attention scores.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    /// The causal mask, `[1, 1, seq, seen]`; with a relative position bias, `[batch or 1, n_heads, seq, seen]`. `None` where
    /// every token attends to all before it.
    pub(crate) full: Option<Tensor<4>>,
    /// The same with what is beyond the sliding window or the chunk.
    pub(crate) windowed: Option<Tensor<4>>,
}

/// The positions of the grid's columns, row after row: of all rows alike where they begin at 0.
pub(crate) fn spans(packing: &Packing) -> Vec<Range<usize>> {
    match packing.starts() {
        None => vec![0..packing.seq()],
        Some(starts) => {
            let rows = starts.iter().zip(packing.row_lens());
            rows.map(|(&start, len)| start..start + len).collect()
        }
    }
}

/// How far back a token sees.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    All,
    /// This many tokens, itself included.
    Window(usize),
    /// To the beginning of its chunk of this length.
    Chunk(usize),
}

impl Reach {
    fn hides(self, query: usize, key: usize) -> bool {
        key > query
            || match self {
                Self::All => false,
                Self::Window(window) => query - key >= window,
                Self::Chunk(chunk) => key / chunk != query / chunk,
            }
    }
}

/// The mask of a span of tokens over all positions up to its end: very negative where a token must not attend. Finite, so that no
/// difference of two infinities can arise. `None` where nothing is hidden.
pub(crate) fn mask(reach: Reach, span: &Range<usize>, device: &Device) -> Option<Tensor<4>> {
    // The first key is the one that is hidden soonest.
    if span.len() == 1 && !reach.hides(span.start, 0) {
        return None;
    }
    let end = span.end;
    let row = |query| (0..end).map(move |key| if reach.hides(query, key) { f32::MIN } else { 0.0 });
    let values: Vec<f32> = span.clone().flat_map(row).collect();
    Some(Tensor::from_data(TensorData::new(values, [1, 1, span.len(), end]), device))
}

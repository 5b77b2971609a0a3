use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::Packing;
use litemoe_kernels::AttentionSpan;

/// Attention masks, added to the scores.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    /// Causal mask, `[1, 1, seq, seen]`; with a relative position bias, `[batch or 1, n_heads, seq, seen]`. `None`
    /// where every token attends to all before it.
    pub(crate) full: Option<Tensor<4>>,
    /// Causal mask limited to the sliding window or the chunk.
    pub(crate) windowed: Option<Tensor<4>>,
}

/// Position range of each row; one range for all rows when they start at 0.
pub(crate) fn spans(packing: &Packing) -> Vec<Range<usize>> {
    match packing.starts() {
        None => std::iter::once(0..packing.seq()).collect(),
        Some(starts) => {
            let rows = starts.iter().zip(packing.row_lens());
            rows.map(|(&start, len)| start..start + len).collect()
        }
    }
}

/// Mask of a span of queries over all keys up to its end, `[1, 1, span, end]`: 0, or `f32::MIN` where a token must not
/// attend. Finite, so that no infinities are subtracted. `None` where nothing is masked.
pub(crate) fn mask(
    span_kind: AttentionSpan,
    span: &Range<usize>,
    device: &Device,
) -> Option<Tensor<4>> {
    // The first key is masked before any other.
    if span.len() == 1 && span_kind.keys(span.start).start == 0 {
        return None;
    }
    let end = span.end;
    let row = |query| {
        let seen = span_kind.keys(query);
        (0..end).map(move |key| if seen.contains(&key) { 0.0 } else { f32::MIN })
    };
    let values: Vec<f32> = span.clone().flat_map(row).collect();
    Some(Tensor::from_data(TensorData::new(values, [1, 1, span.len(), end]), device))
}

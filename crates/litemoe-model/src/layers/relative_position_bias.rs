use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use litemoe_core::Packing;
use litemoe_kernels::AttentionSpan;

use crate::config::RelativeConfig;
use crate::layers::attention_mask::{Masks, mask, spans};

/// Relative position bias of a stack, shared by all its blocks (T5, arXiv 1910.10683).
#[derive(Debug)]
pub(crate) struct RelativeBias {
    /// `[n_buckets, n_heads]`
    weight: Tensor<2>,
    config: RelativeConfig,
    /// Whether attention is bidirectional.
    both_ways: bool,
}

impl RelativeBias {
    /// `weight` is `[n_buckets, n_heads]`.
    pub(crate) fn new(weight: Tensor<2>, config: RelativeConfig, both_ways: bool) -> Self {
        Self { weight, config, both_ways }
    }

    /// Attention masks with the bias added: one for all rows when they start at 0, else one per row.
    pub(crate) fn masks(&self, packing: &Packing) -> Vec<Masks> {
        let device = self.weight.device();
        let padding = self.both_ways.then(|| padding(packing, &device)).flatten();
        let of_span = |span: Range<usize>| {
            let hidden = if self.both_ways {
                padding.clone()
            } else {
                mask(AttentionSpan::All, &span, &device)
            };
            let bias = self.bias(span);
            let full = match hidden {
                Some(hidden) => bias + hidden,
                None => bias,
            };
            Masks { full: Some(full), windowed: None }
        };
        spans(packing).into_iter().map(of_span).collect()
    }

    /// Bias of a span of queries, `[1, n_heads, seq, end]`.
    fn bias(&self, span: Range<usize>) -> Tensor<4> {
        let (seq, end) = (span.len(), span.end);
        let bucket = |query: usize| (0..end).map(move |key| self.bucket(key as i64 - query as i64));
        let buckets: Vec<i64> = span.flat_map(bucket).collect();
        let buckets = Tensor::<1, Int>::from_data(buckets.as_slice(), &self.weight.device());
        let [_, n_heads] = self.weight.dims();
        let bias = self.weight.clone().select(0, buckets).reshape([1, seq, end, n_heads]);
        bias.permute([0, 3, 1, 2])
    }

    /// Bucket of a distance, key minus query: half of the buckets hold single distances, the others grow
    /// logarithmically.
    fn bucket(&self, distance: i64) -> i64 {
        let RelativeConfig { n_buckets, max_distance } = self.config;
        let (n_buckets, first) = match (self.both_ways, distance > 0) {
            (true, true) => (n_buckets / 2, n_buckets / 2),
            (true, false) => (n_buckets / 2, 0),
            (false, _) => (n_buckets, 0),
        };
        let distance = if self.both_ways { distance.abs() } else { (-distance).max(0) } as usize;
        let n_exact = n_buckets / 2;
        let bucket = if distance < n_exact {
            distance
        } else if distance >= max_distance {
            n_buckets - 1
        } else {
            // In f32, as the reference rounds.
            let wide = (distance as f32 / n_exact as f32).ln()
                / (max_distance as f64 / n_exact as f64).ln() as f32;
            (n_exact + (wide * (n_buckets - n_exact) as f32) as usize).min(n_buckets - 1)
        };
        (first + bucket) as i64
    }
}

/// Padding mask, `[batch, 1, 1, seq]`; `None` where all rows have the same length.
pub(crate) fn padding(packing: &Packing, device: &Device) -> Option<Tensor<4>> {
    let (lens, seq) = (packing.row_lens(), packing.seq());
    let mask = |&len: &usize| (0..seq).map(move |key| if key < len { 0.0 } else { f32::MIN });
    let values: Vec<f32> = lens.iter().flat_map(mask).collect();
    let shape = [lens.len(), 1, 1, seq];
    let is_ragged = lens.iter().any(|&len| len != seq);
    is_ragged.then(|| Tensor::from_data(TensorData::new(values, shape), device))
}

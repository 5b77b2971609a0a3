use burn::tensor::{DType, Tensor};

use crate::primitive::is_host;

/// What [`map_heads`] does to every head, in this order.
#[derive(Debug)]
pub struct HeadMap<'a> {
    /// RMSNorm: the weight, `[1, d_head]`, and ε.
    pub norm: Option<(&'a Tensor<2>, f64)>,
    /// RoPE.
    pub rotation: Option<Rotation<'a>>,
    /// Factor, 1 if there is none.
    pub scale: f64,
}

/// RoPE: rotations of the pairs `(i, i + d_head / 2)`.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// Cosines by position, `[1, positions, 1, d_head]`.
    pub cos: &'a Tensor<4>,
    /// Sines, negated in the first half of the dimensions, `[1, positions, 1, d_head]`.
    pub sin: &'a Tensor<4>,
    /// Whether the pairs are `(2·i, 2·i + 1)` in the input.
    pub interleaved: bool,
}

/// Whether [`map_heads`] has a kernel for the tensor: f32 on the CPU, not tracked by autodiff.
pub fn fuses_heads(x: &Tensor<2>) -> bool {
    is_host(&x.device()) && !x.device().is_autodiff() && x.dtype() == DType::F32
}

/// RMSNorm, RoPE and scaling of query or key heads, in one pass and in place.
///
/// # Shapes
/// - `x` and output: `[rows * positions, heads * d_head]`
///
/// # Panics
/// When [`fuses_heads`] is false, or shapes are not these.
pub fn map_heads(x: Tensor<2>, d_head: usize, map: &HeadMap<'_>) -> Tensor<2> {
    assert!(fuses_heads(&x), "heads of another tensor than untracked f32 on the CPU");
    #[cfg(feature = "flex")]
    return flex::map_heads(x, d_head, map);
    #[cfg(not(feature = "flex"))]
    unreachable!("no kernel of {map:?} for heads of width {d_head}")
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::TensorMetadata;
    use burn::tensor::Tensor;
    use burn_flex::Flex;
    use rayon::prelude::*;

    use super::HeadMap;
    use crate::primitive::{AsPrimitive, contiguous, values};

    /// Minimum number of elements per parallel task.
    const ELEMENTS_PER_TASK: usize = 1 << 14;
    /// Partial sums of a mean.
    const LANES: usize = 16;

    pub(super) fn map_heads(x: Tensor<2>, d_head: usize, map: &HeadMap<'_>) -> Tensor<2> {
        let width = x.dims()[1].max(1);
        let primitive = |x: &Tensor<4>| {
            let [_, positions, _, width] = x.dims();
            contiguous(Flex::primitive(x.clone().reshape([positions, width])))
        };
        let norm = map.norm.map(|(weight, eps)| (contiguous(Flex::primitive(weight.clone())), eps));
        let norm = norm.as_ref().map(|(weight, eps)| (values(weight), *eps as f32));
        let rotation = map.rotation.as_ref();
        let tables = rotation.map(|it| ([primitive(it.cos), primitive(it.sin)], it.interleaved));
        let scale = map.scale as f32;
        let mut x = Flex::primitive(x).to_contiguous();
        let tokens = x.storage_mut::<f32>().par_chunks_exact_mut(width);
        let tokens = tokens.with_min_len(ELEMENTS_PER_TASK.div_ceil(width));
        tokens.enumerate().for_each(|(token, heads)| {
            let mut turned = vec![0f32; d_head];
            let rotation = tables.as_ref().map(|([cos, sin], interleaved)| {
                let [positions, _] = cos.shape().dims();
                let row = |table| &values(table)[token % positions * d_head..][..d_head];
                (row(cos), row(sin), *interleaved)
            });
            for head in heads.chunks_exact_mut(d_head) {
                if let Some((weight, eps)) = norm {
                    normalise(head, weight, eps);
                }
                if let Some((cos, sin, interleaved)) = rotation {
                    rotate(head, &mut turned, [cos, sin], interleaved);
                }
                if scale != 1. {
                    head.iter_mut().for_each(|x| *x *= scale);
                }
            }
        });
        Flex::tensor(x)
    }

    /// `x / √(mean(x²) + ε) · w`
    fn normalise(head: &mut [f32], weight: &[f32], eps: f32) {
        let mut sums = [0f32; LANES];
        for x in head.chunks(LANES) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * x);
        }
        let mean = sums.iter().sum::<f32>() / head.len() as f32;
        let root = (mean + eps).sqrt();
        head.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x / root * weight);
    }

    fn rotate(head: &mut [f32], turned: &mut [f32], [cos, sin]: [&[f32]; 2], interleaved: bool) {
        let half = head.len() / 2;
        if interleaved {
            for (at, pair) in head.chunks_exact(2).enumerate() {
                (turned[at], turned[half + at]) = (pair[0], pair[1]);
            }
        } else {
            turned.copy_from_slice(head);
        }
        let (first, second) = turned.split_at(half);
        let swapped = second.iter().chain(first);
        let inputs = turned.iter().zip(swapped).zip(cos.iter().zip(sin));
        for (x, ((turned, swapped), (cos, sin))) in head.iter_mut().zip(inputs) {
            *x = turned * cos + swapped * sin;
        }
    }
}

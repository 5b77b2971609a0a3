use burn::backend::TensorMetadata;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{Flex, FlexTensor, Layout};
use rayon::prelude::*;

use super::op::Kernels;
use crate::exp::exp;
use crate::matrix::InstructionSet;
use crate::primitive::{contiguous, values};

/// Independent sums of a row, which vectorise.
const LANES: usize = 16;

impl Kernels for Flex {
    fn forward(logits: FlexTensor, targets: &[usize]) -> (FlexTensor, Vec<f32>) {
        let (logits, set) = (contiguous(logits), InstructionSet::in_use());
        let rows = rows(&logits, targets);
        let log_sums: Vec<f32> =
            rows.par_iter().map(|row| set.vectorise(|| log_sum(row))).collect();
        let terms = rows.iter().zip(&log_sums).zip(targets);
        let sum: f64 = terms.map(|((row, sum), &target)| f64::from(sum - row[target])).sum();
        let layout = Layout::contiguous(Shape::new([1, 1]));
        (FlexTensor::new(Bytes::from_elems(vec![sum as f32]), layout, DType::F32), log_sums)
    }

    /// `(softmax(logits) − one-hot(target)) · grad`, in the place of the logits.
    fn backward(
        logits: FlexTensor,
        log_sums: &[f32],
        targets: &[usize],
        grad: FlexTensor,
    ) -> FlexTensor {
        // Also of a view, which may begin anywhere in its storage.
        let (mut logits, set) = (logits.to_contiguous(), InstructionSet::in_use());
        let (grad, width) = (values(&contiguous(grad))[0], width(&logits));
        let rows = logits.storage_mut::<f32>().par_chunks_exact_mut(width);
        rows.zip(log_sums).zip(targets).for_each(|((row, &log_sum), &target)| {
            set.vectorise(|| row.iter_mut().for_each(|x| *x = exp(*x - log_sum) * grad));
            row[target] -= grad;
        });
        logits
    }
}

fn rows<'a>(logits: &'a FlexTensor, targets: &[usize]) -> Vec<&'a [f32]> {
    let rows: Vec<_> = values(logits).chunks_exact(width(logits)).collect();
    assert_eq!(rows.len(), targets.len(), "a target for each row");
    rows
}

fn width(logits: &FlexTensor) -> usize {
    let [_, width] = logits.shape().dims();
    width.max(1)
}

/// Logarithm of the sum of a row's exponentials.
#[inline(always)]
fn log_sum(row: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    for values in row.chunks(LANES) {
        for (most, &value) in most.iter_mut().zip(values) {
            *most = if value > *most { value } else { *most };
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; LANES];
    for values in row.chunks(LANES) {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += exp(value - most));
    }
    most + sums.into_iter().sum::<f32>().ln()
}

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_flex::{Flex, FlexTensor, Layout};
use rayon::prelude::*;

use super::op::Kernels;
use crate::exp::exp;
use crate::matrix::InstructionSet;
use crate::primitive::{contiguous, values};

/// Minimum number of elements per parallel task.
const ELEMENTS_PER_TASK: usize = 1 << 14;

impl Kernels for Flex {
    fn forward(gate_up: FlexTensor) -> FlexTensor {
        let [n, width] = dims(&gate_up);
        let d_expert = width / 2;
        let gate_up = contiguous(gate_up);
        by_rows([n, d_expert], |row, output| {
            row_forward(&values(&gate_up)[row * width..][..width], output);
        })
    }

    fn backward(gate_up: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let [n, width] = dims(&gate_up);
        let d_expert = width / 2;
        let (gate_up, grad) = (contiguous(gate_up), contiguous(grad));
        by_rows([n, width], |row, output| {
            let gate_up = &values(&gate_up)[row * width..][..width];
            row_backward(gate_up, &values(&grad)[row * d_expert..][..d_expert], output);
        })
    }
}

/// One row: gate and up, `[2 * d_expert]` → `[d_expert]`. Inlined, to be vectorised by the caller.
#[inline(always)]
pub(crate) fn row_forward(gate_up: &[f32], output: &mut [f32]) {
    let (gate, up) = gate_up.split_at(output.len());
    for ((output, &gate), &up) in output.iter_mut().zip(gate).zip(up) {
        *output = gate * sigmoid(gate) * up;
    }
}

/// Gradient of one row: gate and up, `[2 * d_expert]`, and the output's gradient, `[d_expert]` → `[2 * d_expert]`.
/// Inlined, as [`row_forward`].
#[inline(always)]
pub(crate) fn row_backward(gate_up: &[f32], grad: &[f32], output: &mut [f32]) {
    let (gate, up) = gate_up.split_at(grad.len());
    let (d_gate, d_up) = output.split_at_mut(grad.len());
    let inputs = gate.iter().zip(up).zip(grad);
    for ((d_gate, d_up), ((&gate, &up), &grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
        let sigmoid = sigmoid(gate);
        *d_gate = grad * up * sigmoid * (1. + gate * (1. - sigmoid));
        *d_up = grad * gate * sigmoid;
    }
}

/// Computes a tensor row by row, in parallel. Rows are independent: the result does not depend on the threads.
fn by_rows([n, width]: [usize; 2], fill: impl Fn(usize, &mut [f32]) + Sync) -> FlexTensor {
    let (mut output, set) = (vec![0f32; n * width], InstructionSet::in_use());
    if !output.is_empty() {
        output
            .par_chunks_exact_mut(width)
            .with_min_len(ELEMENTS_PER_TASK.div_ceil(width))
            .enumerate()
            .for_each(|(row, output)| set.vectorise(|| fill(row, output)));
    }
    let bytes = burn::tensor::Bytes::from_elems(output);
    FlexTensor::new(bytes, Layout::contiguous(Shape::new([n, width])), DType::F32)
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    tensor.shape().dims()
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

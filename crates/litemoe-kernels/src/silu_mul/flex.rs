use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_flex::{Flex, FlexTensor, Layout};
use rayon::prelude::*;

use super::op::Kernels;

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
            let (gate, up) = values(&gate_up)[row * width..][..width].split_at(d_expert);
            let grad = &values(&grad)[row * d_expert..][..d_expert];
            let (d_gate, d_up) = output.split_at_mut(d_expert);
            let inputs = gate.iter().zip(up).zip(grad);
            for ((d_gate, d_up), ((&gate, &up), &grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                let sigmoid = sigmoid(gate);
                *d_gate = grad * up * sigmoid * (1. + gate * (1. - sigmoid));
                *d_up = grad * gate * sigmoid;
            }
        })
    }
}

/// One row: gate and up, `[2 * d_expert]` → `[d_expert]`.
pub(crate) fn row_forward(gate_up: &[f32], output: &mut [f32]) {
    let (gate, up) = gate_up.split_at(output.len());
    for ((output, &gate), &up) in output.iter_mut().zip(gate).zip(up) {
        *output = gate * sigmoid(gate) * up;
    }
}

/// Computes a tensor row by row, in parallel. Rows are independent: the result does not depend on the threads.
fn by_rows([n, width]: [usize; 2], fill: impl Fn(usize, &mut [f32]) + Sync) -> FlexTensor {
    let mut output = vec![0f32; n * width];
    if !output.is_empty() {
        output
            .par_chunks_exact_mut(width)
            .with_min_len(ELEMENTS_PER_TASK.div_ceil(width))
            .enumerate()
            .for_each(|(row, output)| fill(row, output));
    }
    let bytes = burn::tensor::Bytes::from_elems(output);
    FlexTensor::new(bytes, Layout::contiguous(Shape::new([n, width])), DType::F32)
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    tensor.shape().dims()
}

/// Copies the tensor unless its elements are already contiguous.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous f32 tensor")
}

fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

/// Exponential function with an error of at most 2 ulp, without branches or calls, so that loops over it vectorise.
/// Clamps x to [-87, 88].
///
/// Splits `x = n·ln 2 + r` and evaluates Cephes' polynomial for `exp(r)` (Moshier, expf.c).
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87., 88.);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + coefficient;
    }
    let exp_r = p * r * r + r + 1.;
    let two_to_n = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    exp_r * two_to_n
}

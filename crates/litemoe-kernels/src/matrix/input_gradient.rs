//! Transposed product: gradient of a product's input.

#![allow(unsafe_code)]

use super::activations::Bf16Rows;
use super::columns::{Columns, GROUP};
use super::layout::{BF16_LINES, BLOCK, Bits, LANES, Line, Panels, Quantised};
use super::pack::round_to_bf16;
use super::product::{Bf16Product, TASKS_PER_THREAD};
use super::{InstructionSet, Matrix};
use crate::pool;

/// Panels of the transposed weight that a block of the weight holds.
const PANELS: usize = BLOCK / LANES;

/// `grad·W` for rows `grad`, `[n, d_out]`, row-major: `[n, d_in]`. A few panels of the transposed weight at a time are
/// unpacked to bf16, then multiplied as bf16 weights are.
pub(super) fn input_gradient(set: InstructionSet, matrix: &Matrix, grad: &[f32]) -> Vec<f32> {
    let (d_in, d_out) = (matrix.d_in, matrix.d_out);
    let grad = Bf16Rows::of(grad, d_out);
    let mut output = vec![0f32; grad.n_rows() * d_in];
    let tasks = TASKS_PER_THREAD * rayon::current_num_threads();
    let mut parts = Columns::of(&mut output, d_in).split(tasks);
    let n_blocks = d_out.div_ceil(BLOCK);
    pool::for_each(&mut parts, |columns| {
        let mut lines = vec![Line::ZERO; GROUP * n_blocks * BF16_LINES];
        let panels = columns.panels();
        for first in panels.clone().step_by(GROUP) {
            let mut group = columns.part(first..panels.end.min(first + GROUP));
            transpose(set, matrix, first, &mut lines);
            let product = Bf16Product { lines: &lines, first, x: grad.blocks(), n_blocks };
            product.run(set, &mut group);
        }
    });
    output
}

/// Unpacks [`GROUP`] panels of the transposed weight from panel `first`, a multiple of [`PANELS`].
fn transpose(set: InstructionSet, matrix: &Matrix, first: usize, lines: &mut [Line]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(matrix: &Matrix, first: usize, lines: &mut [Line]) {
            transpose_portable(matrix, first, lines);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512(matrix: &Matrix, first: usize, lines: &mut [Line]) {
            transpose_portable(matrix, first, lines);
        }
        match set {
            InstructionSet::Portable => {}
            // SAFETY: the set is used only where it is available.
            InstructionSet::Avx2 => return unsafe { avx2(matrix, first, lines) },
            // SAFETY: as above.
            InstructionSet::Avx512 | InstructionSet::Amx => {
                return unsafe { avx512(matrix, first, lines) };
            }
        }
    }
    let _ = set;
    transpose_portable(matrix, first, lines);
}

/// Inlined, so that a caller with more instructions vectorises it with those.
#[inline(always)]
fn transpose_portable(matrix: &Matrix, first: usize, lines: &mut [Line]) {
    let n_blocks = matrix.n_blocks();
    let size = lines.len() / GROUP;
    let blocks = first / PANELS..n_blocks.min((first + GROUP) / PANELS);
    for (block, lines) in blocks.zip(lines.chunks_exact_mut(PANELS * size)) {
        let (left, right) = lines.split_at_mut(size);
        for panel in 0..matrix.d_out.div_ceil(LANES) {
            let mut values = [[0f32; LANES]; BLOCK];
            matrix.panels.unpack_block(panel * n_blocks + block, &mut values);
            let pairs = values.map(|lanes| pairs(&lanes));
            let at = panel * LANES / 2;
            let (low, high) = pairs.split_at(LANES);
            for (lines, inputs) in [(&mut *left, low), (&mut *right, high)] {
                for (pair, line) in lines[at..][..LANES / 2].iter_mut().enumerate() {
                    pair_of_outputs(line, inputs, pair);
                }
            }
        }
    }
}

/// Outputs `2·i` and `2·i + 1` of one input in bf16, as one number.
#[inline(always)]
fn pairs(lanes: &[f32; LANES]) -> [u32; LANES / 2] {
    std::array::from_fn(|pair| {
        let [low, high] = [0, 1].map(|at| u32::from(round_to_bf16(lanes[2 * pair + at])));
        low | high << 16
    })
}

#[inline(always)]
fn pair_of_outputs(line: &mut Line, inputs: &[[u32; LANES / 2]], pair: usize) {
    let mut lanes = [0u32; LANES];
    lanes.iter_mut().zip(inputs).for_each(|(lane, pairs)| *lane = pairs[pair]);
    line.set(lanes);
}

impl Panels {
    /// Dequantises a block: its 16 outputs per input.
    #[inline(always)]
    fn unpack_block(&self, block: usize, values: &mut [[f32; LANES]; BLOCK]) {
        match self {
            Self::Bf16(lines) => {
                let lines = &lines[block * BF16_LINES..][..BF16_LINES];
                for (line, [even, odd]) in lines.iter().zip(values.as_chunks_mut::<2>().0) {
                    let words = line.lanes();
                    for lane in 0..LANES {
                        even[lane] = f32::from_bits(words[lane] << 16);
                        odd[lane] = f32::from_bits(words[lane] & !0xffff);
                    }
                }
            }
            Self::Quantised(quantised) => quantised.unpack_block(block, values),
        }
    }
}

impl Quantised {
    #[inline(always)]
    fn unpack_block(&self, block: usize, values: &mut [[f32; LANES]; BLOCK]) {
        let n_lines = self.bits.lines();
        let mut scales = [0f32; LANES];
        half::slice::HalfFloatSliceExt::convert_to_f32_slice(&self.scales[block][..], &mut scales);
        let offset = self.bits.offset();
        let mut write = |input: usize, words: [u32; LANES], shift: u32, mask: u32| {
            for lane in 0..LANES {
                let integer = (words[lane] >> shift & mask) as i32 - offset;
                values[input][lane] = integer as f32 * scales[lane];
            }
        };
        for (at, line) in self.lines[block * n_lines..][..n_lines].iter().enumerate() {
            let words = line.lanes();
            for byte in 0..4 {
                match self.bits {
                    Bits::Eight => write(4 * at + byte, words, 8 * byte as u32, 0xff),
                    Bits::Four => {
                        write(4 * at + byte, words, 8 * byte as u32, 0xf);
                        write(BLOCK / 2 + 4 * at + byte, words, 8 * byte as u32 + 4, 0xf);
                    }
                }
            }
        }
    }
}

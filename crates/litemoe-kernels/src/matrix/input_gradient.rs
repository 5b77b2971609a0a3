//! Transposed product: gradient of a product's input.

#![allow(unsafe_code)]

use half::slice::HalfFloatSliceExt;

use super::activations::Rows;
use super::columns::{Columns, GROUP};
use super::instruction_set::InstructionSet;
use super::layout::{BF16_LINES, BLOCK, Bits, LANES, Line, Matrix, Panels, Quantised};
use super::pack::round_to_bf16;
use super::product::{Bf16Product, Product, by_columns, run_bf16};

/// Panels of the transposed weight that a block of the weight holds.
const PANELS: usize = BLOCK / LANES;

/// `grad·W` for consecutive ranges of rows of bf16 gradients, each with a matrix of equal `d_in`, in one parallel region:
/// `[n, d_in]`, row-major. A few panels of the transposed weight at a time are unpacked to bf16, then multiplied as bf16
/// weights are.
pub(super) fn input_gradients(set: InstructionSet, products: &[Product<'_>]) -> Vec<f32> {
    // SAFETY: `run` goes through all panels, and the kernels store each in every row.
    unsafe {
        by_columns(products, |matrix| matrix.d_in, |product, columns| run(set, product, columns))
    }
}

fn run(set: InstructionSet, product: &Product<'_>, columns: &mut Columns<'_>) {
    let matrix = product.matrix;
    let Rows::Bf16(x) = product.x.rows(product.rows.clone()) else {
        unreachable!("gradients are rounded to bf16")
    };
    let n_blocks = matrix.d_out.div_ceil(BLOCK);
    let mut lines = vec![Line::ZERO; GROUP * n_blocks * BF16_LINES];
    let panels = columns.panels();
    for first in panels.clone().step_by(GROUP) {
        let mut group = columns.part(first..panels.end.min(first + GROUP));
        transpose(set, matrix, first, &mut lines);
        run_bf16(set, &Bf16Product { lines: &lines, first, x, n_blocks }, &mut group);
    }
}

/// Unpacks [`GROUP`] panels of the transposed weight from panel `first`, a multiple of [`PANELS`].
fn transpose(set: InstructionSet, matrix: &Matrix, first: usize, lines: &mut [Line]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(matrix: &Matrix, first: usize, lines: &mut [Line]) {
            transpose_by(matrix, first, lines, transpose_pairs);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512(matrix: &Matrix, first: usize, lines: &mut [Line]) {
            let pairs = |inputs: &_, lines: &mut [_]| transpose_pairs_avx512(inputs, lines);
            transpose_by(matrix, first, lines, pairs);
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
    transpose_by(matrix, first, lines, transpose_pairs);
}

/// The outputs of an input of a panel in bf16, two adjacent ones as one number.
type Pairs = [u32; LANES / 2];

/// Inlined, so that a caller with more instructions vectorises it with those.
#[inline(always)]
fn transpose_by(
    matrix: &Matrix,
    first: usize,
    lines: &mut [Line],
    transpose_pairs: impl Fn(&[Pairs; LANES], &mut [Line]),
) {
    let n_blocks = matrix.n_blocks();
    let size = lines.len() / GROUP;
    let blocks = first / PANELS..n_blocks.min((first + GROUP) / PANELS);
    for (block, lines) in blocks.zip(lines.chunks_exact_mut(PANELS * size)) {
        for panel in 0..matrix.d_out.div_ceil(LANES) {
            let pairs: [Pairs; BLOCK] =
                bytemuck::cast(matrix.panels.unpacked(panel * n_blocks + block));
            let at = panel * (LANES / 2);
            let inputs = pairs.as_chunks::<LANES>().0;
            for (lines, inputs) in lines.chunks_exact_mut(size).zip(inputs) {
                transpose_pairs(inputs, &mut lines[at..][..LANES / 2]);
            }
        }
    }
}

/// Line `i` becomes pair `i` of each input.
#[inline(always)]
fn transpose_pairs(inputs: &[Pairs; LANES], lines: &mut [Line]) {
    for (pair, line) in lines.iter_mut().enumerate() {
        line.set(inputs.map(|pairs| pairs[pair].to_le()));
    }
}

/// As [`transpose_pairs`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_pairs_avx512(inputs: &[Pairs; LANES], lines: &mut [Line]) {
    use std::arch::x86_64::*;
    /// Lane `n·i + j` is the lane of number `from + i` of input `j` of twice `inputs` inputs, of which the first half is in
    /// one register and the second in another, each with `16 / inputs` numbers per input.
    const fn lanes(inputs: usize, from: usize) -> [i32; LANES] {
        let mut lanes = [0; LANES];
        let mut at = 0;
        while at < LANES {
            let (number, input) = (from + at / (2 * inputs), at % (2 * inputs));
            // The first register holds its numbers per input, all later ones its inputs per number.
            let place =
                if inputs == 2 { input % 2 * 8 + number } else { number * inputs + input % inputs };
            lanes[at] = (place + input / inputs * LANES) as i32;
            at += 1;
        }
        lanes
    }
    let load = |lanes: &[i32; LANES]| {
        // SAFETY: 64 bytes; the load needs no alignment.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    };
    let merge = |low, high, lanes: &[i32; LANES]| _mm512_permutex2var_epi32(low, load(lanes), high);
    let two: [__m512i; 8] = std::array::from_fn(|at| {
        // SAFETY: two inputs are 64 bytes; the load needs no alignment.
        unsafe { _mm512_loadu_si512(inputs[2 * at..][..2].as_ptr().cast()) }
    });
    // 4 inputs × 4 numbers, 8 × 2, 16 × 1.
    let four: [__m512i; 8] = std::array::from_fn(|at| {
        let half = const { [lanes(2, 0), lanes(2, 4)] };
        merge(two[at / 2 * 2], two[at / 2 * 2 + 1], &half[at % 2])
    });
    let eight: [__m512i; 8] = std::array::from_fn(|at| {
        // Inputs 8·(at / 4) and on, numbers 2·(at % 4) and on.
        let half = const { [lanes(4, 0), lanes(4, 2)] };
        let from = at / 4 * 4 + at % 4 / 2;
        merge(four[from], four[from + 2], &half[at % 2])
    });
    for (pair, line) in lines.iter_mut().enumerate() {
        let half = const { [lanes(8, 0), lanes(8, 1)] };
        let all = merge(eight[pair / 2], eight[4 + pair / 2], &half[pair % 2]);
        // SAFETY: a line has 64 bytes and is aligned to as many.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), all) };
    }
}

impl Panels {
    /// A block in bf16: its 16 outputs per input.
    #[inline(always)]
    fn unpacked(&self, block: usize) -> [[u16; LANES]; BLOCK] {
        match self {
            Self::Bf16(lines) => {
                let mut values = [[0u16; LANES]; BLOCK];
                let lines = &lines[block * BF16_LINES..][..BF16_LINES];
                for (line, [even, odd]) in lines.iter().zip(values.as_chunks_mut::<2>().0) {
                    let words = line.lanes();
                    *even = words.map(|word| word as u16);
                    *odd = words.map(|word| (word >> 16) as u16);
                }
                values
            }
            Self::Quantised(quantised) => {
                let mut values = [[0f32; LANES]; BLOCK];
                quantised.unpack(block, &mut values);
                values.map(|lanes| lanes.map(round_to_bf16))
            }
        }
    }
}

impl Quantised {
    #[inline(always)]
    fn unpack(&self, block: usize, values: &mut [[f32; LANES]; BLOCK]) {
        let mut scales = [0f32; LANES];
        self.scales[block][..].convert_to_f32_slice(&mut scales);
        let lines = &self.lines[block * self.bits.lines()..][..self.bits.lines()];
        match self.bits {
            Bits::Eight => {
                for (line, four) in lines.iter().zip(values.as_chunks_mut::<4>().0) {
                    unpack_bytes(line.lanes(), 0xff, Bits::Eight.offset(), &scales, four);
                }
            }
            Bits::Four => {
                let (low, high) = values.split_at_mut(BLOCK / 2);
                let halves = low.as_chunks_mut::<4>().0.iter_mut().zip(high.as_chunks_mut::<4>().0);
                for (line, (low, high)) in lines.iter().zip(halves) {
                    let (words, offset) = (line.lanes(), Bits::Four.offset());
                    unpack_bytes(words, 0xf, offset, &scales, low);
                    unpack_bytes(words.map(|word| word >> 4), 0xf, offset, &scales, high);
                }
            }
        }
    }
}

/// The low bits of each word's bytes as weights of four inputs.
#[inline(always)]
fn unpack_bytes(
    words: [u32; LANES],
    mask: u32,
    offset: i32,
    scales: &[f32; LANES],
    inputs: &mut [[f32; LANES]; 4],
) {
    for (byte, lanes) in inputs.iter_mut().enumerate() {
        for ((lane, word), scale) in lanes.iter_mut().zip(words).zip(scales) {
            let integer = (word >> (8 * byte) & mask) as i32 - offset;
            *lane = integer as f32 * scale;
        }
    }
}

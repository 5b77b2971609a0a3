use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::instruction_set::InstructionSet;
use super::layout::{BLOCK, Matrix, Panels};
use super::pack::round_to_bf16;

/// Inputs of a product, rounded as the weights' format needs, padded with zeros to whole blocks.
pub(crate) struct Activations {
    /// Blocks of a row.
    n_blocks: usize,
    blocks: Blocks,
}

enum Blocks {
    Bf16(Vec<[bf16; BLOCK]>),
    Int8(Vec<Int8Block>),
}

#[inline(always)]
fn to_bf16(values: &[f32; BLOCK]) -> [bf16; BLOCK] {
    let mut rounded = [bf16::ZERO; BLOCK];
    for (rounded, &value) in rounded.iter_mut().zip(values) {
        *rounded = bf16::from_bits(round_to_bf16(value));
    }
    rounded
}

/// Some rows of [`Activations`].
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Bf16(&'a [[bf16; BLOCK]]),
    Int8(&'a [Int8Block]),
}

/// 32 inputs as `scale · integers`, each in [−127, 127].
#[derive(Debug, Clone, Copy)]
#[repr(C, align(4))] // four integers are read at once
pub(super) struct Int8Block {
    pub(super) integers: [i8; BLOCK],
    pub(super) scale: f32,
    pub(super) sum: i32,
}

impl Int8Block {
    /// Integers `4·at` to `4·at + 3` as one number.
    #[inline]
    pub(super) fn four(&self, at: usize) -> i32 {
        let integers: [i8; 4] = std::array::from_fn(|i| self.integers[4 * at + i]);
        i32::from_le_bytes(integers.map(|it| it as u8))
    }
}

/// Minimum number of values per parallel task.
const VALUES_PER_TASK: usize = 1 << 14;

impl Activations {
    /// Rounds rows `[n, d_in]` for products with `matrix`, and with others of its format and `d_in`.
    pub(crate) fn of(matrix: &Matrix, x: &[f32]) -> Self {
        let (d_in, n_blocks) = (matrix.d_in, matrix.n_blocks());
        let blocks = match matrix.panels {
            Panels::Bf16(_) => Blocks::Bf16(blocks(x, d_in, [bf16::ZERO; BLOCK], to_bf16)),
            Panels::Quantised(_) => Blocks::Int8(blocks(x, d_in, Int8Block::ZERO, Int8Block::of)),
        };
        Self { n_blocks, blocks }
    }

    /// Rounds rows `[n, d_out]`, gradients of a product's outputs, for [`Matrix::input_gradients`].
    pub(crate) fn of_gradients(matrix: &Matrix, grad: &[f32]) -> Self {
        let d_out = matrix.d_out;
        Self {
            n_blocks: d_out.div_ceil(BLOCK),
            blocks: Blocks::Bf16(blocks(grad, d_out, [bf16::ZERO; BLOCK], to_bf16)),
        }
    }

    /// Rows of these, in the given order.
    pub(crate) fn gather(&self, rows: impl Iterator<Item = usize>) -> Self {
        fn gather<T: Copy>(from: &[T], rows: impl Iterator<Item = usize>, width: usize) -> Vec<T> {
            let mut gathered = Vec::with_capacity(rows.size_hint().0 * width);
            rows.for_each(|row| gathered.extend_from_slice(&from[row * width..][..width]));
            gathered
        }
        let blocks = match &self.blocks {
            Blocks::Bf16(blocks) => Blocks::Bf16(gather(blocks, rows, self.n_blocks)),
            Blocks::Int8(blocks) => Blocks::Int8(gather(blocks, rows, self.n_blocks)),
        };
        Self { n_blocks: self.n_blocks, blocks }
    }

    pub(super) fn n_rows(&self) -> usize {
        let n = match &self.blocks {
            Blocks::Bf16(blocks) => blocks.len(),
            Blocks::Int8(blocks) => blocks.len(),
        };
        n / self.n_blocks.max(1)
    }

    pub(super) fn rows(&self, rows: Range<usize>) -> Rows<'_> {
        let range = rows.start * self.n_blocks..rows.end * self.n_blocks;
        match &self.blocks {
            Blocks::Bf16(blocks) => Rows::Bf16(&blocks[range]),
            Blocks::Int8(blocks) => Rows::Int8(&blocks[range]),
        }
    }
}

/// Rounds rows `[n, d_in]`, block by block; `zero` is a block of zeros.
fn blocks<T: Copy + Send + Sync>(
    x: &[f32],
    d_in: usize,
    zero: T,
    of: impl Fn(&[f32; BLOCK]) -> T + Sync,
) -> Vec<T> {
    let (per_row, set) = (d_in.div_ceil(BLOCK), InstructionSet::in_use());
    let round = |(x, blocks): (&[f32], &mut [T])| {
        set.vectorise(|| {
            let (whole, rest) = x.as_chunks::<BLOCK>();
            for (block, values) in blocks.iter_mut().zip(whole) {
                *block = of(values);
            }
            if !rest.is_empty() {
                let mut values = [0f32; BLOCK];
                values[..rest.len()].copy_from_slice(rest);
                blocks[per_row - 1] = of(&values);
            }
        });
    };
    let width = d_in.max(1);
    let mut blocks = vec![zero; x.len() / width * per_row];
    if x.len() <= VALUES_PER_TASK {
        // Without the cost of a parallel iterator.
        x.chunks_exact(width).zip(blocks.chunks_exact_mut(per_row.max(1))).for_each(round);
    } else {
        let rows = x.par_chunks_exact(width).zip(blocks.par_chunks_exact_mut(per_row.max(1)));
        rows.with_min_len(VALUES_PER_TASK.div_ceil(width)).for_each(round);
    }
    blocks
}

impl Int8Block {
    const ZERO: Self = Self { integers: [0; BLOCK], scale: 0., sum: 0 };

    /// The largest magnitude becomes 127. With a value that is not finite, the scale is not finite either and every
    /// product becomes NaN.
    #[inline(always)]
    fn of(values: &[f32; BLOCK]) -> Self {
        /// Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
        const ROUND: f32 = 12_582_912.;
        // Magnitudes compare as their bits do, and NaN is above infinity.
        let mut largest = 0;
        for value in values {
            largest = largest.max(value.to_bits() & !(1 << 31));
        }
        let scale = f32::from_bits(largest) / 127.;
        let inverse = if scale > 0. && scale.is_finite() { scale.recip() } else { 0. };
        let inverse = if inverse.is_finite() { inverse } else { 0. };
        let (mut integers, mut sum) = ([0i8; BLOCK], 0);
        for (integer, &value) in integers.iter_mut().zip(values) {
            *integer = ((value * inverse + ROUND).to_bits() & 0xff) as i8;
            sum += i32::from(*integer);
        }
        Self { integers, scale, sum }
    }
}

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

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

fn to_bf16(values: [f32; BLOCK]) -> [bf16; BLOCK] {
    values.map(|value| bf16::from_bits(round_to_bf16(value)))
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
            Panels::Bf16(_) => Blocks::Bf16(blocks(x, d_in, to_bf16)),
            Panels::Quantised(_) => Blocks::Int8(blocks(x, d_in, Int8Block::of)),
        };
        Self { n_blocks, blocks }
    }

    /// Rounds rows `[n, d_out]`, gradients of a product's outputs, for [`Matrix::input_gradients`].
    pub(crate) fn of_gradients(matrix: &Matrix, grad: &[f32]) -> Self {
        let d_out = matrix.d_out;
        Self { n_blocks: d_out.div_ceil(BLOCK), blocks: Blocks::Bf16(blocks(grad, d_out, to_bf16)) }
    }

    /// Rows of these, in the given order.
    pub(crate) fn gather(&self, rows: impl Iterator<Item = usize>) -> Self {
        fn gather<T: Copy>(from: &[T], rows: impl Iterator<Item = usize>, width: usize) -> Vec<T> {
            rows.flat_map(|row| &from[row * width..][..width]).copied().collect()
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

fn blocks<T: Send>(x: &[f32], d_in: usize, of: impl Fn([f32; BLOCK]) -> T + Sync) -> Vec<T> {
    let per_row = d_in.div_ceil(BLOCK);
    let block = |at: usize| {
        let row = &x[at / per_row * d_in..][..d_in][at % per_row * BLOCK..];
        let mut values = [0f32; BLOCK];
        let n = row.len().min(BLOCK);
        values[..n].copy_from_slice(&row[..n]);
        of(values)
    };
    let n = x.len() / d_in.max(1) * per_row;
    if n * BLOCK <= VALUES_PER_TASK {
        return (0..n).map(block).collect(); // without the cost of a parallel iterator
    }
    (0..n).into_par_iter().with_min_len(VALUES_PER_TASK / BLOCK).map(block).collect()
}

impl Int8Block {
    /// The largest magnitude becomes 127. With a value that is not finite, the scale is not finite either and every
    /// product becomes NaN.
    fn of(values: [f32; BLOCK]) -> Self {
        /// Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
        const ROUND: f32 = 12_582_912.;
        // Magnitudes compare as their bits do, and NaN is above infinity.
        let largest =
            values.iter().fold(0, |largest, value| largest.max(value.to_bits() & !(1 << 31)));
        let scale = f32::from_bits(largest) / 127.;
        let inverse = if scale > 0. && scale.is_finite() { scale.recip() } else { 0. };
        let inverse = if inverse.is_finite() { inverse } else { 0. };
        let integers = values.map(|value| ((value * inverse + ROUND).to_bits() & 0xff) as i8);
        Self { integers, scale, sum: integers.iter().map(|&it| i32::from(it)).sum() }
    }
}

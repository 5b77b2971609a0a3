//! Products of rows with a packed matrix, one file per instruction set.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use half::{bf16, f16};
use rayon::prelude::*;

use super::activations::{Activations, Int8Block};
use super::columns::Columns;
use super::layout::{BF16_LINES, BLOCK, LANES, Line, Panels, Quantised};
use super::{InstructionSet, Matrix};

/// Minimum number of multiplications per parallel task.
const MULTIPLICATIONS_PER_TASK: usize = 1 << 18;

/// `[n, d_out]`, row-major.
pub(super) fn product(set: InstructionSet, matrix: &Matrix, x: &Activations) -> Vec<f32> {
    let n_blocks = matrix.n_blocks().max(1);
    let n_rows = match x {
        Activations::Bf16(blocks) => blocks.len() / n_blocks,
        Activations::Int8(blocks) => blocks.len() / n_blocks,
    };
    let mut output = vec![0f32; n_rows * matrix.d_out];
    let work = output.len() * matrix.d_in;
    let tasks = (work / MULTIPLICATIONS_PER_TASK).clamp(1, rayon::current_num_threads());
    let parts = Columns::of(&mut output, matrix.d_out).split(tasks);
    let product = |mut columns: Columns<'_>| panels(set, matrix, x, &mut columns);
    if tasks == 1 {
        parts.into_iter().for_each(product);
    } else {
        parts.into_par_iter().for_each(product);
    }
    output
}

/// Computes the columns of one task.
fn panels(set: InstructionSet, matrix: &Matrix, x: &Activations, columns: &mut Columns<'_>) {
    let n_blocks = matrix.n_blocks();
    match (&matrix.panels, x) {
        (Panels::Bf16(lines), Activations::Bf16(x)) => {
            Bf16Product { lines, x, n_blocks }.run(set, columns);
        }
        (Panels::Quantised(weights), Activations::Int8(x)) => {
            Int8Product { weights, x, n_blocks }.run(set, columns);
        }
        _ => unreachable!("activations of another format"),
    }
}

/// Product with bf16 weights, accumulated in f32.
struct Bf16Product<'a> {
    lines: &'a [Line],
    x: &'a [[bf16; BLOCK]],
    n_blocks: usize,
}

impl Bf16Product<'_> {
    fn run(&self, set: InstructionSet, columns: &mut Columns<'_>) {
        match set {
            InstructionSet::Portable => portable::bf16(self, columns),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::bf16(self, columns),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512::bf16(self, columns),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Amx => amx::bf16(self, columns),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::bf16(self, columns),
        }
    }

    fn panel(&self, panel: usize) -> &[Line] {
        let n_lines = self.n_blocks * BF16_LINES;
        &self.lines[panel * n_lines..][..n_lines]
    }

    fn row(&self, row: usize) -> &[[bf16; BLOCK]] {
        &self.x[row * self.n_blocks..][..self.n_blocks]
    }
}

/// Product with quantised weights: exact integer sums per block, which are scaled and added up in f32, in the order of
/// the blocks, with fused multiply–adds. Every instruction set gives the same bits.
struct Int8Product<'a> {
    weights: &'a Quantised,
    x: &'a [Int8Block],
    n_blocks: usize,
}

impl Int8Product<'_> {
    fn run(&self, set: InstructionSet, columns: &mut Columns<'_>) {
        match set {
            InstructionSet::Portable => portable::int8(self, columns),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::int8(self, columns),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512::int8(self, columns),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Amx => amx::int8(self, columns),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::int8(self, columns),
        }
    }

    /// Lines and scales of a panel.
    fn panel(&self, panel: usize) -> (&[Line], &[[f16; LANES]]) {
        let n_lines = self.n_blocks * self.weights.bits.lines();
        let lines = &self.weights.lines[panel * n_lines..][..n_lines];
        (lines, &self.weights.scales[panel * self.n_blocks..][..self.n_blocks])
    }

    fn row(&self, row: usize) -> &[Int8Block] {
        &self.x[row * self.n_blocks..][..self.n_blocks]
    }
}

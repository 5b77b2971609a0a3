use half::{bf16, f16};

use crate::matrix::activations::Int8Block;
use crate::matrix::layout::{BF16_LINES, BLOCK, LANES, Line, Quantised};

/// Product with bf16 weights, accumulated in f32.
pub(in crate::matrix) struct Bf16Product<'a> {
    pub(in crate::matrix) lines: &'a [Line],
    /// The panel that `lines` begins with.
    pub(in crate::matrix) first: usize,
    pub(in crate::matrix) x: &'a [[bf16; BLOCK]],
    pub(in crate::matrix) n_blocks: usize,
}

impl Bf16Product<'_> {
    pub(super) fn panel(&self, panel: usize) -> &[Line] {
        let n_lines = self.n_blocks * BF16_LINES;
        &self.lines[(panel - self.first) * n_lines..][..n_lines]
    }

    pub(super) fn row(&self, row: usize) -> &[[bf16; BLOCK]] {
        &self.x[row * self.n_blocks..][..self.n_blocks]
    }
}

/// Product with quantised weights: exact integer sums per block, which are scaled and added up in f32, in the order of
/// the blocks, with fused multiply–adds. Every instruction set gives the same bits.
pub(super) struct Int8Product<'a> {
    pub(super) weights: &'a Quantised,
    pub(super) x: &'a [Int8Block],
    pub(super) n_blocks: usize,
}

impl Int8Product<'_> {
    /// Lines and scales of a panel.
    pub(super) fn panel(&self, panel: usize) -> (&[Line], &[[f16; LANES]]) {
        let n_lines = self.n_blocks * self.weights.bits.lines();
        let lines = &self.weights.lines[panel * n_lines..][..n_lines];
        (lines, &self.weights.scales[panel * self.n_blocks..][..self.n_blocks])
    }

    pub(super) fn row(&self, row: usize) -> &[Int8Block] {
        &self.x[row * self.n_blocks..][..self.n_blocks]
    }
}

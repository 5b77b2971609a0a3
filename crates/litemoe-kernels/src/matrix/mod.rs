//! Packed weight matrix: bf16, or integers of 8 or 4 bits with a scale per block of 32 inputs.

mod activations;
mod columns;
mod instruction_set;
mod layout;
mod pack;
mod product;
mod unpack;

pub use instruction_set::{InstructionSet, InstructionSetError};

use activations::Activations;
use layout::{BLOCK, Panels};

/// Format of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PackedFormat {
    Bf16,
    Q8,
    Q4,
}

/// Frozen weight `[d_out, d_in]`, packed for products with few or many rows.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    d_out: usize,
    d_in: usize,
    panels: Panels,
}

impl Matrix {
    /// Packs rows in the checkpoint layout, `[d_out, d_in]`, row-major.
    ///
    /// # Panics
    /// When there are not `d_out · d_in` values.
    pub(crate) fn pack(format: PackedFormat, stored: &[f32], [d_out, d_in]: [usize; 2]) -> Self {
        assert_eq!(stored.len(), d_out * d_in, "values of a matrix [{d_out}, {d_in}]");
        Self { d_out, d_in, panels: Panels::pack(format, stored, [d_out, d_in]) }
    }

    /// `x·Wᵀ` for rows `x`, `[n, d_in]`, row-major: `[n, d_out]`. bf16 weights round the rows to bf16; quantised weights
    /// round them to integers of 8 bits with a scale per block. A row's result depends neither on the other rows nor on
    /// the number of threads.
    pub(crate) fn product(&self, set: InstructionSet, x: &[f32]) -> Vec<f32> {
        product::product(set, self, &Activations::of(self, x))
    }

    /// Rows `outputs` in the checkpoint layout, `[n, d_in]`, dequantised.
    pub(crate) fn rows(&self, outputs: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let mut rows = vec![0f32; outputs.len() * self.d_in];
        for (row, output) in rows.chunks_exact_mut(self.d_in.max(1)).zip(outputs) {
            self.panels.unpack(output, self.n_blocks(), row);
        }
        rows
    }

    pub(crate) fn d_out(&self) -> usize {
        self.d_out
    }

    pub(crate) fn d_in(&self) -> usize {
        self.d_in
    }

    /// Blocks of a row.
    fn n_blocks(&self) -> usize {
        self.d_in.div_ceil(BLOCK)
    }
}

#[cfg(test)]
mod tests;

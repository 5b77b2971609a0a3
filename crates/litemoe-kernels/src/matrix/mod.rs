//! Packed weight matrix: bf16, or integers of 8 or 4 bits with a scale per block of 32 inputs.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx_support;
mod columns;
mod input_gradient;
mod instruction_set;
mod layout;
mod memory;
mod pack;
mod product;
mod unpack;

pub use instruction_set::{InstructionSet, InstructionSetError};

pub(crate) use activations::Activations;
pub(crate) use layout::{Matrix, PackedFormat};
pub(crate) use product::Product;

use crate::{RangeError, StoredRows};
use layout::Panels;

impl Matrix {
    /// Packs a weight in the checkpoint layout.
    ///
    /// # Errors
    /// When the format cannot hold a value.
    pub(crate) fn pack(
        set: InstructionSet,
        format: PackedFormat,
        stored: &dyn StoredRows,
    ) -> Result<Self, RangeError> {
        let [d_out, d_in] = stored.shape();
        Ok(Self { d_out, d_in, panels: Panels::pack(set, format, stored)? })
    }

    /// `x·Wᵀ` for rows `x`, `[n, d_in]`, row-major: `[n, d_out]`. bf16 weights round the rows to bf16; quantised weights
    /// round them to integers of 8 bits with a scale per block. A row's result depends neither on the other rows nor on
    /// the number of threads.
    pub(crate) fn product(&self, set: InstructionSet, x: &[f32]) -> Vec<f32> {
        let x = &Activations::of(self, x);
        product::products(set, &[Product { matrix: self, x, rows: 0..x.n_rows() }])
    }

    /// `grad·W` for rows `grad`, `[n, d_out]`, row-major: `[n, d_in]`, the gradient of the input of [`Self::product`].
    /// Rounds the dequantised weight and `grad` to bf16. As independent of other rows and threads.
    pub(crate) fn input_gradient(&self, set: InstructionSet, grad: &[f32]) -> Vec<f32> {
        let x = &Activations::of_gradients(self, grad);
        Self::input_gradients(set, &[Product { matrix: self, x, rows: 0..x.n_rows() }])
    }

    /// Gradients of the inputs of consecutive ranges of rows, with matrices of equal `d_in`: `[n, d_in]`. Each as
    /// [`Self::input_gradient`].
    pub(crate) fn input_gradients(set: InstructionSet, products: &[Product<'_>]) -> Vec<f32> {
        input_gradient::input_gradients(set, products)
    }

    /// Products of consecutive ranges of rows with matrices of equal `d_out`: `[n, d_out]`. Each as [`Self::product`].
    pub(crate) fn products(set: InstructionSet, products: &[Product<'_>]) -> Vec<f32> {
        product::products(set, products)
    }

    /// Rows `outputs` in the checkpoint layout, `[n, d_in]`, dequantised.
    ///
    /// # Panics
    /// When there is no such row.
    pub(crate) fn rows(&self, outputs: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let mut rows = vec![0f32; outputs.len() * self.d_in];
        for (row, output) in rows.chunks_exact_mut(self.d_in.max(1)).zip(outputs) {
            assert!(output < self.d_out, "row {output} of a weight of {} rows", self.d_out);
            self.panels.unpack(output, self.n_blocks(), row);
        }
        rows
    }

    /// All rows in [blocks](crate::block_bytes) of the format, as [`StoredRows::blocks`] gives them; `None` for bf16.
    pub(crate) fn blocks(&self) -> Option<Vec<u8>> {
        let Panels::Quantised(quantised) = &self.panels else { return None };
        let mut bytes = Vec::new();
        for output in 0..self.d_out {
            quantised.append_blocks(output, self.n_blocks(), &mut bytes);
        }
        Some(bytes)
    }

    pub(crate) fn d_out(&self) -> usize {
        self.d_out
    }

    pub(crate) fn d_in(&self) -> usize {
        self.d_in
    }
}

#[cfg(test)]
mod tests;

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::layout::LANES;

/// Panels that a product computes at once, at most.
pub(super) const GROUP: usize = 4;

/// Columns of some panels of a row-major output `[n, d_out]`. Threads write different columns of the same rows, which
/// slices cannot express.
pub(super) struct Columns<'a> {
    values: *mut f32,
    n_rows: usize,
    d_out: usize,
    panels: Range<usize>,
    output: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: as `&mut [MaybeUninit<f32>]`; no two values share a panel.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// All columns of `output`, `[n, d_out]`.
    pub(super) fn of(output: &'a mut [MaybeUninit<f32>], d_out: usize) -> Self {
        let (n_rows, n_panels) = (output.len() / d_out.max(1), d_out.div_ceil(LANES));
        assert_eq!(output.len(), n_rows * d_out);
        let (values, output) = (output.as_mut_ptr().cast(), PhantomData);
        Self { values, n_rows, d_out, panels: 0..n_panels, output }
    }

    /// Splits the panels into at most `n` parts of equal size, a multiple of [`GROUP`].
    pub(super) fn split(self, n: usize) -> Vec<Self> {
        let (Range { start, end }, d_out) = (self.panels, self.d_out);
        let size = (end - start).div_ceil(n.max(1)).max(1).next_multiple_of(GROUP);
        let part = |start| {
            let (panels, output) = (start..end.min(start + size), PhantomData);
            Self { values: self.values, n_rows: self.n_rows, d_out, panels, output }
        };
        (start..end).step_by(size).map(part).collect()
    }

    /// Some of these panels.
    ///
    /// # Panics
    /// When they are not among these.
    pub(super) fn part(&mut self, panels: Range<usize>) -> Columns<'_> {
        assert!(self.panels.start <= panels.start && panels.end <= self.panels.end);
        let Self { values, n_rows, d_out, .. } = *self;
        Columns { values, n_rows, d_out, panels, output: PhantomData }
    }

    pub(super) fn panels(&self) -> Range<usize> {
        self.panels.clone()
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Writes a panel's outputs of one row; those of the padding are dropped.
    ///
    /// # Panics
    /// When the row or the panel is not among these.
    pub(super) fn store(&mut self, row: usize, panel: usize, values: &[f32; LANES]) {
        assert!(row < self.n_rows && self.panels.contains(&panel));
        let column = panel * LANES;
        let n = self.d_out - column;
        // SAFETY: the values at this row and column, as many as the panel has, are inside the output, which is borrowed
        // exclusively for 'a, and belong to a panel that no other value has.
        unsafe {
            let at = self.values.add(row * self.d_out + column);
            if n >= LANES {
                at.cast::<[f32; LANES]>().write(*values); // without a call
            } else {
                at.copy_from_nonoverlapping(values.as_ptr(), n);
            }
        }
    }
}

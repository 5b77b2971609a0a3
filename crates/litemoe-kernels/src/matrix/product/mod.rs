//! Products of rows with a packed matrix, one file per instruction set.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod operands;
mod portable;

use std::ops::Range;

use super::activations::{Activations, Rows};
use super::columns::Columns;
use super::instruction_set::InstructionSet;
use super::layout::{Matrix, Panels};
use crate::pool;
pub(super) use operands::Bf16Product;
use operands::Int8Product;

/// Minimum number of multiplications per parallel task.
const MULTIPLICATIONS_PER_TASK: usize = 1 << 16;

/// Tasks per thread, so that a thread that is held up does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

/// Product of some rows with one matrix.
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a Matrix,
    /// Of all products together.
    pub(crate) x: &'a Activations,
    /// Rows of `x`, and of the output.
    pub(crate) rows: Range<usize>,
}

impl Product<'_> {
    fn multiplications(&self) -> usize {
        self.rows.len() * self.matrix.d_out * self.matrix.d_in
    }

    /// Computes some columns of its rows.
    fn run(&self, set: InstructionSet, columns: &mut Columns<'_>) {
        let n_blocks = self.matrix.n_blocks();
        match (&self.matrix.panels, self.x.rows(self.rows.clone())) {
            (Panels::Bf16(lines), Rows::Bf16(x)) => {
                run_bf16(set, &Bf16Product { lines, first: 0, x, n_blocks }, columns);
            }
            (Panels::Quantised(weights), Rows::Int8(x)) => {
                run_int8(set, &Int8Product { weights, x, n_blocks }, columns);
            }
            _ => unreachable!("activations of another format"),
        }
    }
}

/// Products with matrices of equal `d_out`, for consecutive ranges of rows, in one parallel region: `[n, d_out]`,
/// row-major.
pub(super) fn products(set: InstructionSet, products: &[Product<'_>]) -> Vec<f32> {
    // SAFETY: the kernels of every instruction set store every panel in every row.
    unsafe {
        by_columns(products, |matrix| matrix.d_out, |product, columns| product.run(set, columns))
    }
}

/// Computes the rows of all products, which follow each other from row 0, each `width` of its matrix wide, in one parallel
/// region: `[n, width]`, row-major.
///
/// # Safety
/// `run` stores every panel of its columns in every row.
pub(super) unsafe fn by_columns(
    products: &[Product<'_>],
    width: impl Fn(&Matrix) -> usize,
    run: impl Fn(&Product<'_>, &mut Columns<'_>) + Sync,
) -> Vec<f32> {
    let Some(last) = products.last() else { return Vec::new() };
    let (n_rows, width) = (last.rows.end, width(last.matrix));
    let work: usize = products.iter().map(Product::multiplications).sum();
    let per_task = work / (TASKS_PER_THREAD * rayon::current_num_threads());
    let per_task = per_task.max(MULTIPLICATIONS_PER_TASK);
    let mut output = Vec::with_capacity(n_rows * width);
    let (mut tasks, mut rest) = (Vec::new(), &mut output.spare_capacity_mut()[..n_rows * width]);
    let mut end = 0;
    for product in products {
        assert_eq!(product.rows.start, end, "rows that follow each other");
        end = product.rows.end;
        let (output, others) = rest.split_at_mut(product.rows.len() * width);
        rest = others;
        let parts = Columns::of(output, width).split(product.multiplications().div_ceil(per_task));
        tasks.extend(parts.into_iter().map(|columns| (product, columns)));
    }
    pool::for_each(&mut tasks, |(product, columns)| run(product, columns));
    // SAFETY: the products' rows are all rows, and `run` has stored all columns of each.
    unsafe { output.set_len(n_rows * width) };
    output
}

pub(super) fn run_bf16(set: InstructionSet, product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
    match set {
        InstructionSet::Portable => portable::bf16(product, columns),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => avx2::bf16(product, columns),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => avx512::bf16(product, columns),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Amx => amx::bf16(product, columns),
        #[cfg(not(target_arch = "x86_64"))]
        _ => portable::bf16(product, columns),
    }
}

fn run_int8(set: InstructionSet, product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    match set {
        InstructionSet::Portable => portable::int8(product, columns),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => avx2::int8(product, columns),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => avx512::int8(product, columns),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Amx => amx::int8(product, columns),
        #[cfg(not(target_arch = "x86_64"))]
        _ => portable::int8(product, columns),
    }
}

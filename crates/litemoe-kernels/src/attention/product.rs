use super::lanes::Lanes;
use super::simd::{Load, Simd};

/// Rows whose sums are in registers together.
const ROWS: usize = 4;

/// Left operand of a product: value `k` of row `row` is at `row·row_step + k·step`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_step: usize,
    pub(super) step: usize,
    /// Values of a row.
    pub(super) depth: usize,
}

impl<'a> Left<'a> {
    /// Rows of a matrix `[n, stride]`, row-major, of which the first `depth` columns are used.
    pub(super) fn rows(values: &'a [f32], stride: usize, depth: usize) -> Self {
        Self { values, row_step: stride, step: 1, depth }
    }

    /// Columns of a matrix `[depth, stride]`, row-major.
    pub(super) fn columns(values: &'a [f32], stride: usize, depth: usize) -> Self {
        Self { values, row_step: 1, step: stride, depth }
    }
}

/// `c += a·b`. Each sum adds up its terms in order, whatever the instruction set and the number of rows.
///
/// # Shapes
/// - `b`: `[depth or more, width]` lanes
/// - `c`: `[n, width]` lanes
#[inline(always)]
pub(super) fn add_product<S: Simd, L: Load>(
    simd: S,
    a: Left<'_>,
    b: &[L],
    width: usize,
    c: &mut [Lanes],
) {
    let mut row = 0;
    for c in c.chunks_mut(ROWS * width) {
        if c.len() == ROWS * width {
            add_rows::<S, L, ROWS>(simd, a, row, b, width, c);
        } else {
            for (at, c) in c.chunks_exact_mut(width).enumerate() {
                add_rows::<S, L, 1>(simd, a, row + at, b, width, c);
            }
        }
        row += ROWS;
    }
}

/// `R` rows of the product, from `row`.
#[inline(always)]
fn add_rows<S: Simd, L: Load, const R: usize>(
    simd: S,
    a: Left<'_>,
    row: usize,
    b: &[L],
    width: usize,
    c: &mut [Lanes],
) {
    let mut column = 0;
    while column < width {
        if S::PANEL >= 4 && width - column >= 4 {
            add_tile::<S, L, R, 4>(simd, a, row, b, [column, width], c);
            column += 4;
        } else {
            add_tile::<S, L, R, 1>(simd, a, row, b, [column, width], c);
            column += 1;
        }
    }
}

/// `R` rows and `N` lanes of the product, from `row` and `column`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops over constants, which are unrolled: the sums stay in registers
fn add_tile<S: Simd, L: Load, const R: usize, const N: usize>(
    simd: S,
    a: Left<'_>,
    row: usize,
    b: &[L],
    [column, width]: [usize; 2],
    c: &mut [Lanes],
) {
    let mut sums = [[simd.zero(); N]; R];
    for r in 0..R {
        for n in 0..N {
            sums[r][n] = simd.load(&c[r * width + column + n]);
        }
    }
    for (k, b) in b.chunks_exact(width).take(a.depth).enumerate() {
        let b = &b[column..column + N];
        for r in 0..R {
            let x = simd.splat(a.values[(row + r) * a.row_step + k * a.step]);
            for n in 0..N {
                sums[r][n] = simd.mul_add(x, b[n].load(simd), sums[r][n]);
            }
        }
    }
    for r in 0..R {
        for n in 0..N {
            simd.store(sums[r][n], &mut c[r * width + column + n]);
        }
    }
}

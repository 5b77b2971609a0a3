#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::operands::{Bf16Product, Int8Product};
use crate::matrix::activations::Int8Block;
use crate::matrix::columns::Columns;
use crate::matrix::layout::{Bits, LANES, Line};

/// Distance of the prefetch, in lines: 3 KiB.
const AHEAD: usize = 48;

/// Calls a function with 8 rows at once, then with those that are left: a line is loaded once for all of them. With fewer than
/// six, the sums wait for each other.
macro_rules! by_rows {
    ($from:expr, $to:expr, |$row:ident, $n:ident| $body:expr) => {
        let mut $row = $from;
        while $row < $to {
            macro_rules! run {
                ($count:literal) => {{
                    const $n: usize = $count;
                    $body;
                    $row += $n;
                }};
            }
            match $to - $row {
                8.. => run!(8),
                7 => run!(7),
                6 => run!(6),
                5 => run!(5),
                4 => run!(4),
                3 => run!(3),
                2 => run!(2),
                _ => run!(1),
            }
        }
    };
}

pub(super) fn bf16(product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
    for panel in columns.panels() {
        by_rows!(0, columns.n_rows(), |row, N| {
            // SAFETY: `InstructionSet::Avx512` is used only where these features are.
            unsafe { bf16_rows::<N>(product, panel, row, columns) };
        });
    }
}

/// `N` rows of a panel, from `row`. Loops, since the closures of arrays' methods are not inlined here.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16_rows<const N: usize>(
    product: &Bf16Product<'_>,
    panel: usize,
    row: usize,
    columns: &mut Columns<'_>,
) {
    let mut sums = [_mm512_setzero_ps(); N];
    let mut rows: [&[u32]; N] = [&[]; N];
    for (at, x) in rows.iter_mut().enumerate() {
        *x = pairs(product.row(row + at));
    }
    for (at, line) in product.panel(panel).iter().enumerate() {
        prefetch(line);
        let weights = as_bf16(load(line));
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = as_bf16(_mm512_set1_epi32(row[at] as i32));
            *sums = _mm512_dpbf16_ps(*sums, weights, x);
        }
    }
    for (at, sums) in sums.into_iter().enumerate() {
        columns.store(row + at, panel, &lanes(sums));
    }
}

/// Adjacent bf16 inputs as one number.
fn pairs(row: &[[half::bf16; 32]]) -> &[u32] {
    bytemuck::cast_slice(row)
}

pub(super) fn int8(product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    int8_from(0, product, columns);
}

/// As [`int8`], for the rows from `first`.
pub(super) fn int8_from(first: usize, product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    for panel in columns.panels() {
        by_rows!(first, columns.n_rows(), |row, N| {
            // SAFETY: `InstructionSet::Avx512` is used only where these features are.
            unsafe {
                match product.weights.bits {
                    Bits::Eight => int8_rows::<N, false>(product, panel, row, columns),
                    Bits::Four => int8_rows::<N, true>(product, panel, row, columns),
                }
            }
        });
    }
}

/// As [`bf16_rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c,fma")]
fn int8_rows<const N: usize, const FOUR_BITS: bool>(
    product: &Int8Product<'_>,
    panel: usize,
    row: usize,
    columns: &mut Columns<'_>,
) {
    let bits = if FOUR_BITS { Bits::Four } else { Bits::Eight };
    let (lines, scales) = product.panel(panel);
    let mut rows: [&[Int8Block]; N] = [&[]; N];
    for (at, x) in rows.iter_mut().enumerate() {
        *x = product.row(row + at);
    }
    let mut sums = [_mm512_setzero_ps(); N];
    for (block, (lines, scales)) in lines.chunks_exact(bits.lines()).zip(scales).enumerate() {
        let mut products = [_mm512_setzero_si512(); N];
        for (products, row) in products.iter_mut().zip(rows) {
            *products = _mm512_set1_epi32(-bits.offset() * row[block].sum);
        }
        for (at, line) in lines.iter().enumerate() {
            prefetch(line);
            let line = load(line);
            let [low, high] = if FOUR_BITS { halves(line) } else { [line; 2] };
            for (products, row) in products.iter_mut().zip(rows) {
                let x = &row[block];
                *products = _mm512_dpbusd_epi32(*products, low, _mm512_set1_epi32(x.four(at)));
                if FOUR_BITS {
                    let inputs = _mm512_set1_epi32(x.four(at + 4));
                    *products = _mm512_dpbusd_epi32(*products, high, inputs);
                }
            }
        }
        let scales = wide(scales);
        for ((sums, products), row) in sums.iter_mut().zip(products).zip(rows) {
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(row[block].scale));
            *sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, *sums);
        }
    }
    for (at, sums) in sums.into_iter().enumerate() {
        columns.store(row + at, panel, &lanes(sums));
    }
}

/// The integers of 4 bits in the low and the high halves of a line's bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn halves(line: __m512i) -> [__m512i; 2] {
    let low = _mm512_set1_epi8(0xf);
    [_mm512_and_si512(line, low), _mm512_and_si512(_mm512_srli_epi16::<4>(line), low)]
}

/// Scales in f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn wide(scales: &[f16; LANES]) -> __m512 {
    // SAFETY: 16 values of 2 bytes; the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(line: &Line) -> __m512i {
    // SAFETY: a line has 64 bytes and is aligned to as many.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

/// A hint to load the line [`AHEAD`] of this one.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch(line: &Line) {
    let ahead = std::ptr::from_ref(line).wrapping_add(AHEAD);
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: two views of 512 bits.
    unsafe { std::mem::transmute(bits) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn lanes(sums: __m512) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    // SAFETY: 16 values; the store needs no alignment.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    lanes
}

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::operands::{Bf16Product, Int8Product};
use super::portable::high;
use crate::matrix::activations::Int8Block;
use crate::matrix::columns::Columns;
use crate::matrix::layout::{BLOCK, Bits, LANES, Line};

/// Distance of the prefetch, in lines: 3 KiB.
const AHEAD: usize = 48;

/// Rows that are widened at a time: few, so that gradients of a vocabulary take little memory.
const WIDENED: usize = 16;

/// Lanes of a register: half a line.
const HALF: usize = LANES / 2;

/// Calls a function with 4 rows at once, then with those that are left: weights are unpacked once for all of them, and their
/// sums fit the registers.
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
                4.. => run!(4),
                3 => run!(3),
                2 => run!(2),
                _ => run!(1),
            }
        }
    };
}

pub(super) fn bf16(product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
    let (width, n_rows) = (product.n_blocks * BLOCK, columns.n_rows());
    let mut x = Vec::with_capacity(n_rows.min(WIDENED) * width);
    for first in (0..n_rows).step_by(WIDENED) {
        let end = n_rows.min(first + WIDENED);
        x.clear();
        for row in first..end {
            x.extend(product.row(row).as_flattened().iter().map(|input| high(input.to_bits())));
        }
        for panel in columns.panels() {
            by_rows!(first, end, |row, N| {
                let rows = std::array::from_fn(|at| &x[(row - first + at) * width..][..width]);
                // SAFETY: `InstructionSet::Avx2` is used only where these features are.
                unsafe { bf16_rows::<N>(product.panel(panel), rows, [row, panel], columns) };
            });
        }
    }
}

/// `N` rows of a panel, from `row`. Loops, since the closures of arrays' methods are not inlined here.
#[target_feature(enable = "avx2,fma")]
fn bf16_rows<const N: usize>(
    lines: &[Line],
    rows: [&[f32]; N],
    [row, panel]: [usize; 2],
    columns: &mut Columns<'_>,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    let upper = _mm256_set1_epi32(!0xffff);
    for (at, line) in lines.iter().enumerate() {
        prefetch(line);
        let [first, second] = load(line);
        // A bf16 is the upper half of an f32.
        let even = [_mm256_slli_epi32::<16>(first), _mm256_slli_epi32::<16>(second)];
        let odd = [_mm256_and_si256(first, upper), _mm256_and_si256(second, upper)];
        for (sums, row) in sums.iter_mut().zip(rows) {
            let (a, b) = (_mm256_set1_ps(row[2 * at]), _mm256_set1_ps(row[2 * at + 1]));
            for (sum, (even, odd)) in sums.iter_mut().zip(even.into_iter().zip(odd)) {
                *sum = _mm256_fmadd_ps(_mm256_castsi256_ps(even), a, *sum);
                *sum = _mm256_fmadd_ps(_mm256_castsi256_ps(odd), b, *sum);
            }
        }
    }
    for (at, sums) in sums.into_iter().enumerate() {
        columns.store(row + at, panel, &lanes(sums));
    }
}

pub(super) fn int8(product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    for panel in columns.panels() {
        by_rows!(0, columns.n_rows(), |row, N| {
            // SAFETY: `InstructionSet::Avx2` is used only where these features are.
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
#[target_feature(enable = "avx2,fma,f16c")]
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
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for (block, (lines, scales)) in lines.chunks_exact(bits.lines()).zip(scales).enumerate() {
        let products = if FOUR_BITS {
            four_bits(lines.first_chunk().expect("a block").each_ref(), block, &rows)
        } else {
            eight_bits(lines.first_chunk().expect("a block").each_ref(), block, &rows)
        };
        let scales = wide(scales);
        for ((sums, products), row) in sums.iter_mut().zip(products).zip(rows) {
            let factor = _mm256_set1_ps(row[block].scale);
            for ((sum, products), scale) in sums.iter_mut().zip(products).zip(scales) {
                let scale = _mm256_mul_ps(scale, factor);
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, *sum);
            }
        }
    }
    for (at, sums) in sums.into_iter().enumerate() {
        columns.store(row + at, panel, &lanes(sums));
    }
}

/// Σ integer·x over a block. Products of magnitudes: two are at most 2 · 128 · 127, which 16 bits hold.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_bits<const N: usize>(
    lines: [&Line; Bits::Eight.lines()],
    block: usize,
    rows: &[&[Int8Block]; N],
) -> [[__m256i; 2]; N] {
    let (sign, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
    let mut products = [[_mm256_setzero_si256(); 2]; N];
    for (at, line) in lines.into_iter().enumerate() {
        prefetch(line);
        let [first, second] = load(line);
        let weights = [_mm256_xor_si256(first, sign), _mm256_xor_si256(second, sign)];
        let magnitudes = [_mm256_abs_epi8(weights[0]), _mm256_abs_epi8(weights[1])];
        for (products, row) in products.iter_mut().zip(rows) {
            let x = _mm256_set1_epi32(row[block].four(at));
            for half in 0..2 {
                let signed = _mm256_sign_epi8(x, weights[half]);
                let pairs = _mm256_maddubs_epi16(magnitudes[half], signed);
                let pairs = _mm256_madd_epi16(pairs, ones);
                products[half] = _mm256_add_epi32(products[half], pairs);
            }
        }
    }
    products
}

/// As [`eight_bits`], with the offset. All sixteen products of pairs are at most 8 · 2 · 15 · 127, which 16 bits hold.
#[inline]
#[target_feature(enable = "avx2")]
fn four_bits<const N: usize>(
    lines: [&Line; Bits::Four.lines()],
    block: usize,
    rows: &[&[Int8Block]; N],
) -> [[__m256i; 2]; N] {
    let (mask, ones) = (_mm256_set1_epi8(0xf), _mm256_set1_epi16(1));
    let mut pairs = [[_mm256_setzero_si256(); 2]; N];
    for (at, line) in lines.into_iter().enumerate() {
        prefetch(line);
        for (half, line) in load(line).into_iter().enumerate() {
            let low = _mm256_and_si256(line, mask);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(line), mask);
            for (pairs, row) in pairs.iter_mut().zip(rows) {
                let x = &row[block];
                let of_low = _mm256_maddubs_epi16(low, _mm256_set1_epi32(x.four(at)));
                let of_high = _mm256_maddubs_epi16(high, _mm256_set1_epi32(x.four(at + 4)));
                let both = _mm256_add_epi16(of_low, of_high);
                pairs[half] = _mm256_add_epi16(pairs[half], both);
            }
        }
    }
    for (pairs, row) in pairs.iter_mut().zip(rows) {
        let offset = _mm256_set1_epi32(-Bits::Four.offset() * row[block].sum);
        for pairs in pairs {
            *pairs = _mm256_add_epi32(_mm256_madd_epi16(*pairs, ones), offset);
        }
    }
    pairs
}

/// Scales in f32, of each half of a panel.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn wide(scales: &[f16; LANES]) -> [__m256; 2] {
    let halves = scales.as_ptr().cast::<__m128i>();
    // SAFETY: 2 · 8 values of 2 bytes; the loads need no alignment.
    let halves = unsafe { [_mm_loadu_si128(halves), _mm_loadu_si128(halves.add(1))] };
    [_mm256_cvtph_ps(halves[0]), _mm256_cvtph_ps(halves[1])]
}

/// The halves of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line) -> [__m256i; 2] {
    let halves = line.0.as_ptr().cast::<__m256i>();
    // SAFETY: a line has 64 bytes and is aligned to as many.
    unsafe { [_mm256_load_si256(halves), _mm256_load_si256(halves.add(1))] }
}

/// A hint to load the line [`AHEAD`] of this one.
#[inline]
fn prefetch(line: &Line) {
    let ahead = std::ptr::from_ref(line).wrapping_add(AHEAD);
    // SAFETY: SSE is in every x86-64; a hint reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) };
}

#[inline]
#[target_feature(enable = "avx2")]
fn lanes([low, high]: [__m256; 2]) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    // SAFETY: 16 values; the stores need no alignment.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), low);
        _mm256_storeu_ps(lanes.as_mut_ptr().add(HALF), high);
    }
    lanes
}

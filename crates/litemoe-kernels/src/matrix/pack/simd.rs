//! Vectors of 16 values, per instruction set.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::matrix::instruction_set::InstructionSet;
use crate::matrix::layout::LANES;

/// A number for each output of a panel.
pub(super) type Lanes = [f32; LANES];

/// 16 rows of 64 bytes.
pub(super) type Square<'a> = [&'a [u8; 64]; LANES];

/// Columns of 16 numbers of 32 bits.
pub(super) type Columns = [[u32; LANES]; LANES];

/// Aligned to 64 bytes, so that no load or store of a register crosses a cache line.
#[repr(C, align(64))]
pub(super) struct Aligned<T>(pub(super) T);

/// Adding 1.5·2²³ leaves the nearest integer, ties to even, in the low bits of the mantissa.
pub(super) const ROUND: f32 = 12_582_912.;

/// Proof that the machine has an instruction set, with its operations on vectors. Loops use them, not `map` and `from_fn` of
/// arrays: functions with target features are not inlined into those. All sets give the same values; zeros may differ in
/// their signs.
pub(super) trait Simd: Copy {
    /// 16 values in registers.
    type Vector: Copy;

    fn splat(self, value: f32) -> Self::Vector;
    fn load(self, lanes: &Lanes) -> Self::Vector;
    fn store(self, vector: Self::Vector, lanes: &mut Lanes);
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The greater; `b` if either is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Nearest integers of values below 2²² in magnitude, ties to even.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// Transposes 16 rows of 16 numbers of 32 bits.
    fn transpose(self, rows: &Square<'_>, columns: &mut Columns);
}

/// Computation with vectors, inlined into a function that has the instructions.
pub(super) trait Task {
    fn run<S: Simd>(self, simd: S);
}

/// Runs a task with an instruction set.
pub(super) fn run(set: InstructionSet, task: impl Task) {
    match set {
        InstructionSet::Portable => task.run(Portable),
        // On Zen 4, 512-bit vectors take twice as long as 256-bit ones here.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 | InstructionSet::Avx512 | InstructionSet::Amx => {
            #[target_feature(enable = "avx2")]
            fn run(simd: Avx2, task: impl Task) {
                task.run(simd);
            }
            // SAFETY: these sets are used only where AVX2 is.
            unsafe { run(Avx2(()), task) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        _ => task.run(Portable),
    }
}

#[derive(Clone, Copy)]
struct Portable;

impl Portable {
    #[inline(always)]
    fn each(mut a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
        for (a, b) in a.iter_mut().zip(b) {
            *a = f(*a, b);
        }
        a
    }
}

impl Simd for Portable {
    type Vector = Lanes;

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> Lanes {
        *lanes
    }

    #[inline(always)]
    fn store(self, vector: Lanes, lanes: &mut Lanes) {
        *lanes = vector;
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        Self::each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        Self::each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        Self::each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        Self::each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self, a: Lanes) -> Lanes {
        Self::each(a, [ROUND; LANES], |a, round| (a + round) - round)
    }

    #[inline(always)]
    fn transpose(self, rows: &Square<'_>, columns: &mut Columns) {
        for (lane, row) in rows.iter().enumerate() {
            for (column, &number) in columns.iter_mut().zip(row.as_chunks().0) {
                column[lane] = u32::from_ne_bytes(number);
            }
        }
    }
}

/// Made by [`run`] alone, where the machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type Vector = [__m256; 2];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has AVX2, here and below.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> Self::Vector {
        let from = lanes.as_ptr();
        // SAFETY: as above; lanes are 16 values.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    fn store(self, [low, high]: Self::Vector, lanes: &mut Lanes) {
        let to = lanes.as_mut_ptr();
        // SAFETY: as above; lanes are 16 values.
        unsafe {
            _mm256_storeu_ps(to, low);
            _mm256_storeu_ps(to.add(8), high);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: as above.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: as above.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: as above.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: as above.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn round(self, a: Self::Vector) -> Self::Vector {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: as above.
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }

    #[inline(always)]
    fn transpose(self, rows: &Square<'_>, columns: &mut Columns) {
        // SAFETY: as above.
        unsafe { transpose_avx2(rows, columns) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_avx2(rows: &Square<'_>, columns: &mut Columns) {
    for (first, eight) in (0..).step_by(8).zip(rows.as_chunks::<8>().0) {
        for half in 0..2 {
            let mut r = [_mm256_setzero_si256(); 8];
            for (r, row) in r.iter_mut().zip(eight) {
                // SAFETY: half a row is 32 bytes.
                *r = unsafe { _mm256_loadu_si256(row.as_ptr().add(32 * half).cast()) };
            }
            // Columns 0 and 1, 2 and 3 of each 4, of two rows.
            let mut pairs = [[_mm256_setzero_si256(); 2]; 4];
            for (pair, r) in pairs.iter_mut().zip(r.as_chunks::<2>().0) {
                *pair = [_mm256_unpacklo_epi32(r[0], r[1]), _mm256_unpackhi_epi32(r[0], r[1])];
            }
            for column in 0..4 {
                // Of four rows: columns `column` and `4 + column`.
                let four = |i: usize| {
                    let (a, b) = (pairs[2 * i][column / 2], pairs[2 * i + 1][column / 2]);
                    match column % 2 {
                        0 => _mm256_unpacklo_epi64(a, b),
                        _ => _mm256_unpackhi_epi64(a, b),
                    }
                };
                let (low, high) = (four(0), four(1));
                let both = [
                    _mm256_permute2x128_si256::<0x20>(low, high),
                    _mm256_permute2x128_si256::<0x31>(low, high),
                ];
                for (place, values) in both.into_iter().enumerate() {
                    let to = &mut columns[8 * half + 4 * place + column][first..first + 8];
                    // SAFETY: `to` is 8 numbers of 32 bits.
                    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), values) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Transposed<'a>(&'a [[u8; 64]; LANES], &'a mut Columns);

    impl Task for Transposed<'_> {
        fn run<S: Simd>(self, simd: S) {
            simd.transpose(&self.0.each_ref(), self.1);
        }
    }

    #[test]
    fn a_square_is_transposed() {
        let rows: [[u8; 64]; LANES] = std::array::from_fn(|row| {
            let numbers: [u32; LANES] = std::array::from_fn(|column| (row << 16 | column) as u32);
            bytemuck::cast(numbers)
        });
        for set in InstructionSet::available() {
            let mut found = [[0; LANES]; LANES];
            run(set, Transposed(&rows, &mut found));
            for (column, numbers) in found.iter().enumerate() {
                for (row, &number) in numbers.iter().enumerate() {
                    assert_eq!(number, (row << 16 | column) as u32, "{set}");
                }
            }
        }
    }
}

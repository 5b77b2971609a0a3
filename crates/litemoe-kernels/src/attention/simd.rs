//! Vectors of 16 values, per instruction set.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::lanes::{Bf16Lanes, LANES, Lanes, StoredLanes};
use crate::matrix::InstructionSet;

/// Proof that the machine has an instruction set, with its vector operations.
pub(super) trait Simd: Copy {
    /// 16 values in registers.
    type Vector: Copy;
    /// Vectors of a row whose sums are in registers together.
    const PANEL: usize;

    fn zero(self) -> Self::Vector;
    fn splat(self, value: f32) -> Self::Vector;
    fn load(self, lanes: &Lanes) -> Self::Vector;
    /// Widens bf16 values, which are the upper halves of f32 values.
    fn widen(self, lanes: &Bf16Lanes) -> Self::Vector;
    fn store(self, vector: Self::Vector, lanes: &mut Lanes);
    /// `a·b + c`
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// Stored values that are loaded into registers as f32.
pub(super) trait Load: StoredLanes {
    fn load<S: Simd>(&self, simd: S) -> S::Vector;
}

impl Load for Lanes {
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S) -> S::Vector {
        simd.load(self)
    }
}

impl Load for Bf16Lanes {
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S) -> S::Vector {
        simd.widen(self)
    }
}

/// Computation with vectors, inlined into a function that has the instructions.
pub(super) trait Task {
    fn run<S: Simd>(self, simd: S);
}

/// Runs a task with an instruction set.
pub(super) fn run(set: InstructionSet, task: impl Task) {
    match set {
        InstructionSet::Portable => task.run(Portable),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => {
            #[target_feature(enable = "avx2,fma")]
            fn run(simd: Avx2, task: impl Task) {
                task.run(simd);
            }
            // SAFETY: `InstructionSet::Avx2` is used only where these features are.
            unsafe { run(Avx2(()), task) }
        }
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Amx => {
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn run(simd: Avx512, task: impl Task) {
                task.run(simd);
            }
            // SAFETY: `InstructionSet::Avx512` and `Amx` are used only where these features are.
            unsafe { run(Avx512(()), task) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        _ => task.run(Portable),
    }
}

#[derive(Clone, Copy)]
struct Portable;

impl Simd for Portable {
    type Vector = [f32; LANES];
    const PANEL: usize = 1;

    #[inline(always)]
    fn zero(self) -> Self::Vector {
        [0.; LANES]
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> Self::Vector {
        lanes.0
    }

    #[inline(always)]
    fn widen(self, lanes: &Bf16Lanes) -> Self::Vector {
        lanes.0.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, lanes: &mut Lanes) {
        lanes.0 = vector;
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, mut c: Self::Vector) -> Self::Vector {
        for ((c, a), b) in c.iter_mut().zip(a).zip(b) {
            *c += a * b;
        }
        c
    }
}

/// Made by [`run`] alone, where the machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type Vector = [__m256; 2];
    const PANEL: usize = 1;

    #[inline(always)]
    fn zero(self) -> Self::Vector {
        // SAFETY: `self` proves that the machine has AVX2 and FMA, here and below.
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> Self::Vector {
        let from = lanes.0.as_ptr();
        // SAFETY: as above; lanes are 16 values, aligned to 64 bytes.
        unsafe { [_mm256_load_ps(from), _mm256_load_ps(from.add(8))] }
    }

    #[inline(always)]
    fn widen(self, lanes: &Bf16Lanes) -> Self::Vector {
        let from = lanes.0.as_ptr().cast::<__m128i>();
        // SAFETY: as above; lanes are 16 values of 2 bytes, aligned to 32.
        let halves = unsafe { [_mm_load_si128(from), _mm_load_si128(from.add(1))] };
        // SAFETY: as above.
        halves.map(|half| unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
        })
    }

    #[inline(always)]
    fn store(self, [low, high]: Self::Vector, lanes: &mut Lanes) {
        let to = lanes.0.as_mut_ptr();
        // SAFETY: as above; lanes are 16 values, aligned to 64 bytes.
        unsafe {
            _mm256_store_ps(to, low);
            _mm256_store_ps(to.add(8), high);
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: as above.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
}

/// Made by [`run`] alone, where the machine has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type Vector = __m512;
    const PANEL: usize = 4;

    #[inline(always)]
    fn zero(self) -> Self::Vector {
        // SAFETY: `self` proves that the machine has AVX-512 F, here and below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> Self::Vector {
        // SAFETY: as above; lanes are 16 values, aligned to 64 bytes.
        unsafe { _mm512_load_ps(lanes.0.as_ptr()) }
    }

    #[inline(always)]
    fn widen(self, lanes: &Bf16Lanes) -> Self::Vector {
        // SAFETY: as above; lanes are 16 values of 2 bytes, aligned to 32.
        unsafe {
            let bits = _mm256_load_si256(lanes.0.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
        }
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, lanes: &mut Lanes) {
        // SAFETY: as above; lanes are 16 values, aligned to 64 bytes.
        unsafe { _mm512_store_ps(lanes.0.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}

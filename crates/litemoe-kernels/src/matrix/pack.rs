#![allow(unsafe_code)]

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::instruction_set::InstructionSet;
use super::layout::{BF16_LINES, BLOCK, Bits, LANES, Line, PackedFormat, Panels, Quantised};
use super::memory::Buffer;
use crate::pool;
use crate::{RangeError, StoredRows};

/// A number for each output of a panel.
type Lanes = [f32; LANES];

/// Minimum number of values per parallel task.
const VALUES_PER_TASK: usize = 1 << 16;

impl Panels {
    /// Packs a weight; outputs and inputs are padded with zeros to whole panels and blocks. Every instruction set gives
    /// the same bits.
    ///
    /// # Errors
    /// When the format cannot hold a value.
    pub(super) fn pack(
        set: InstructionSet,
        format: PackedFormat,
        stored: &dyn StoredRows,
    ) -> Result<Self, RangeError> {
        let [d_out, d_in] = stored.shape();
        let (n_panels, n_blocks) = (d_out.div_ceil(LANES), d_in.div_ceil(BLOCK));
        let [n_lines, n_scales] = match format {
            PackedFormat::Bf16 => [BF16_LINES, 0],
            PackedFormat::Q8 => [Bits::Eight.lines(), 1],
            PackedFormat::Q4 => [Bits::Four.lines(), 1],
        };
        let product = |factors: [usize; 3]| {
            let product = factors.into_iter().try_fold(1, usize::checked_mul);
            product
                .unwrap_or_else(|| panic!("a weight [{d_out}, {d_in}]: beyond the address space"))
        };
        let mut lines = Buffer::zeroed(product([n_panels, n_blocks, n_lines]));
        let mut scales = Buffer::zeroed(product([n_panels, n_blocks, n_scales]));
        let padded = product([LANES, n_blocks, BLOCK]);
        let mut scales_of = scales.chunks_exact_mut(n_blocks.max(1));
        let panels = lines.chunks_exact_mut(product([1, n_blocks, n_lines]).max(1)).enumerate();
        let panels = panels.map(|(index, lines)| {
            let scales = scales_of.next().unwrap_or_default();
            Panel { index, format, lines, scales, unfit: None }
        });
        let mut panels: Vec<_> = panels.collect();
        let per_task = VALUES_PER_TASK.div_ceil(padded.max(1));
        let mut tasks: Vec<_> = panels.chunks_mut(per_task).collect();
        pool::for_each(&mut tasks, |panels| {
            let mut rows = vec![0f32; padded];
            panels.iter_mut().for_each(|panel| panel.pack(set, stored, &mut rows));
        });
        if let Some(row) = panels.iter().find_map(|panel| panel.unfit) {
            return Err(RangeError { dtype: format.dtype(), row });
        }
        Ok(match format {
            PackedFormat::Bf16 => Self::Bf16(lines),
            PackedFormat::Q8 => Self::Quantised(Quantised { bits: Bits::Eight, lines, scales }),
            PackedFormat::Q4 => Self::Quantised(Quantised { bits: Bits::Four, lines, scales }),
        })
    }
}

/// A panel to be packed.
struct Panel<'a> {
    index: usize,
    format: PackedFormat,
    lines: &'a mut [Line],
    /// Empty for bf16.
    scales: &'a mut [[f16; LANES]],
    /// A row with a value that the format cannot hold.
    unfit: Option<usize>,
}

impl Panel<'_> {
    /// `rows`: space for the rows, zeros behind their ends.
    fn pack(&mut self, set: InstructionSet, stored: &dyn StoredRows, rows: &mut [f32]) {
        let [d_out, d_in] = stored.shape();
        let first = self.index * LANES;
        let width = rows.len() / LANES;
        for (row, values) in (first..).zip(rows.chunks_exact_mut(width)) {
            if row < d_out {
                stored.read(row, &mut values[..d_in]);
            } else {
                values.fill(0.);
            }
        }
        self.fill(set, rows);
    }

    fn fill(&mut self, set: InstructionSet, rows: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn avx2(panel: &mut Panel<'_>, rows: &[f32]) {
                panel.fill_portable(rows);
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512(panel: &mut Panel<'_>, rows: &[f32]) {
                panel.fill_portable(rows);
            }
            match set {
                InstructionSet::Portable => {}
                // SAFETY: the set is used only where it is available.
                InstructionSet::Avx2 => return unsafe { avx2(self, rows) },
                // SAFETY: as above.
                InstructionSet::Avx512 | InstructionSet::Amx => {
                    return unsafe { avx512(self, rows) };
                }
            }
        }
        let _ = set;
        self.fill_portable(rows);
    }

    /// Inlined, so that a caller with more instructions vectorises it with those.
    #[inline(always)]
    fn fill_portable(&mut self, rows: &[f32]) {
        let width = rows.len() / LANES;
        let n_lines = self.lines.len() / (width / BLOCK);
        let mut block = [[0f32; LANES]; BLOCK];
        for (at, lines) in self.lines.chunks_exact_mut(n_lines).enumerate() {
            for (input, lanes) in block.iter_mut().enumerate() {
                for (lane, value) in lanes.iter_mut().enumerate() {
                    *value = rows[lane * width + at * BLOCK + input];
                }
            }
            let fits = match self.format {
                PackedFormat::Bf16 => write_bf16(&block, lines),
                PackedFormat::Q8 => {
                    self.scales[at] = eight_bits(&block, lines);
                    self.scales[at].map(f16::is_finite)
                }
                PackedFormat::Q4 => {
                    self.scales[at] = four_bits(&block, lines);
                    self.scales[at].map(f16::is_finite)
                }
            };
            if let Some(lane) = fits.iter().position(|fits| !fits) {
                self.unfit = Some(self.index * LANES + lane);
            }
        }
    }
}

/// Returns which outputs are finite.
#[inline(always)]
fn write_bf16(block: &[Lanes; BLOCK], lines: &mut [Line]) -> [bool; LANES] {
    let mut largest = [0u16; LANES];
    for (line, [low, high]) in lines.iter_mut().zip(block.as_chunks::<2>().0) {
        let mut lanes = [0u32; LANES];
        for (at, lane) in lanes.iter_mut().enumerate() {
            let (low, high) = (round_to_bf16(low[at]), round_to_bf16(high[at]));
            largest[at] = largest[at].max(low & 0x7fff).max(high & 0x7fff);
            *lane = u32::from(low) | u32::from(high) << 16;
        }
        line.set(lanes);
    }
    largest.map(|bits| bits < 0x7f80)
}

/// The largest magnitude becomes 127. Returns the scales: not finite for values that they cannot reach or that are not
/// finite.
#[inline(always)]
fn eight_bits(block: &[Lanes; BLOCK], lines: &mut [Line]) -> [f16; LANES] {
    let largest = largest(block).map(f32::abs);
    let (scales, inverses) = scales(largest.map(|it| it / 127.));
    let mut integers = [[0i32; LANES]; BLOCK];
    for (integers, values) in integers.iter_mut().zip(block) {
        *integers = rounded(values, &inverses, [-127., 127.]);
    }
    for (line, integers) in lines.iter_mut().zip(integers.as_chunks::<4>().0) {
        line.set(std::array::from_fn(|lane| {
            let bytes = integers.map(|integers| (integers[lane] + Bits::Eight.offset()) as u8);
            u32::from_le_bytes(bytes)
        }));
    }
    scales
}

/// What the value of largest magnitude becomes before it is rounded, with 4 bits.
const LEVELS: [f32; 9] = [-9.4, -9.05, -8.7, -8.35, -8., -7.65, -7.3, -6.95, -6.6];

/// Integers with the least squared error of several: those at which the value of largest magnitude is about −8, each with
/// the scale that fits them best. With integers `i` of values `v`, that scale is `Σi·v / Σi²`, and its squared error
/// `Σv² − (Σi·v)² / Σi²`. Returns the scales, as [`eight_bits`].
#[inline(always)]
fn four_bits(block: &[Lanes; BLOCK], lines: &mut [Line]) -> [f16; LANES] {
    const RANGE: [f32; 2] = [-8., 7.];
    let largest = largest(block);
    let (mut best, mut most) = ([0f32; LANES], [0f32; LANES]);
    for level in LEVELS {
        let inverses = largest.map(|it| if it == 0. { 0. } else { level / it });
        let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
        for values in block {
            let integers = rounded(values, &inverses, RANGE);
            for lane in 0..LANES {
                let integer = integers[lane] as f32;
                products[lane] += integer * values[lane];
                squares[lane] += integer * integer;
            }
        }
        for lane in 0..LANES {
            let square = if squares[lane] > 0. { squares[lane] } else { 1. };
            let gain = products[lane] * products[lane] / square;
            let better = gain > most[lane];
            most[lane] = if better { gain } else { most[lane] };
            best[lane] = if better { products[lane] / square } else { best[lane] };
        }
    }
    for (best, largest) in best.iter_mut().zip(largest) {
        *best = if largest.is_finite() { *best } else { largest };
    }
    let (scales, inverses) = scales(best);
    let mut integers = [[0i32; LANES]; BLOCK];
    for (integers, values) in integers.iter_mut().zip(block) {
        *integers = rounded(values, &inverses, RANGE);
    }
    let (low, high) = integers.split_at(BLOCK / 2);
    let halves = low.as_chunks::<4>().0.iter().zip(high.as_chunks::<4>().0);
    for (line, (low, high)) in lines.iter_mut().zip(halves) {
        line.set(std::array::from_fn(|lane| {
            let [low, high] = [low, high].map(|four| {
                u32::from_le_bytes(four.map(|it| (it[lane] + Bits::Four.offset()) as u8))
            });
            low | high << 4
        }));
    }
    scales
}

/// The value of largest magnitude of each output, the first of several. Magnitudes compare as their bits do, and NaN is above
/// infinity.
#[inline(always)]
fn largest(block: &[Lanes; BLOCK]) -> Lanes {
    let mut largest = [0f32; LANES];
    for values in block {
        for (largest, &value) in largest.iter_mut().zip(values) {
            let bits = |value: f32| value.abs().to_bits() as i32;
            *largest = if bits(value) > bits(*largest) { value } else { *largest };
        }
    }
    largest
}

/// Scales as they are stored, and their inverses; 0 for a scale of 0. Subnormal scales are rounded up, so that no integer is
/// cut to the range and none but 0 becomes 0.
#[inline(always)]
fn scales(values: Lanes) -> ([f16; LANES], Lanes) {
    /// The smallest normal f16.
    const MIN_NORMAL: f32 = 1. / 16384.;
    let (mut scales, mut wide) = ([f16::ZERO; LANES], [0f32; LANES]);
    scales.convert_from_f32_slice(&values);
    scales.convert_to_f32_slice(&mut wide);
    for ((scale, wide), value) in scales.iter_mut().zip(wide).zip(values) {
        let short = wide.abs() < value.abs().min(MIN_NORMAL);
        *scale = f16::from_bits(scale.to_bits() + u16::from(short));
    }
    scales.convert_to_f32_slice(&mut wide);
    (scales, wide.map(|scale| if scale == 0. { 0. } else { scale.recip() }))
}

/// Nearest integers in a range of `values` times `inverses`, ties to even. Without a call, so that loops vectorise.
#[inline(always)]
fn rounded(values: &Lanes, inverses: &Lanes, [low, high]: [f32; 2]) -> [i32; LANES] {
    /// Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.;
    std::array::from_fn(|lane| {
        let value = (values[lane] * inverses[lane]).max(low).min(high);
        (value + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
    })
}

/// Bits of the nearest bf16, ties to even; NaN stays NaN. Without branches, so that loops vectorise.
#[inline(always)]
pub(super) fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let nan = bits >> 16 | 0x40;
    (if value.is_nan() { nan } else { nearest }) as u16
}

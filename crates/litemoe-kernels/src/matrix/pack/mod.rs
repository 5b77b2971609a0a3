mod blocks;
mod rows;
mod simd;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::instruction_set::InstructionSet;
use super::layout::{BF16_LINES, BLOCK, Bits, LANES, Line, PackedFormat, Panels, Quantised};
use super::memory::Buffer;
use crate::pool;
use crate::{RangeError, StoredRows};
use rows::PanelRows;
use simd::{Aligned, Columns, Lanes, ROUND, Simd};

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
            let mut space = Vec::new();
            for panel in panels.iter_mut() {
                let rows = &PanelRows::read(stored, format, panel.index, &mut space);
                simd::run(set, Packing { panel, rows });
            }
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

/// The packing of a panel.
struct Packing<'a, 'b> {
    panel: &'a mut Panel<'b>,
    rows: &'a PanelRows<'a>,
}

impl simd::Task for Packing<'_, '_> {
    /// Inlined, so that the compiler vectorises loops with the instructions of the set.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Packing { panel, rows } = self;
        let n_lines = match panel.format {
            PackedFormat::Bf16 => BF16_LINES,
            PackedFormat::Q8 => Bits::Eight.lines(),
            PackedFormat::Q4 => Bits::Four.lines(),
        };
        if let PanelRows::Blocks(rows) = rows {
            let bits = match panel.format {
                PackedFormat::Q8 => Bits::Eight,
                PackedFormat::Q4 => Bits::Four,
                PackedFormat::Bf16 => unreachable!("bf16 has no blocks"),
            };
            let unfit = blocks::copy(rows, bits, panel.lines, panel.scales);
            panel.unfit = unfit.map(|lane| panel.index * LANES + lane);
            return;
        }
        let mut pairs = Aligned([[0; LANES]; LANES]);
        let mut block = Aligned([[0f32; LANES]; BLOCK]);
        for (at, lines) in panel.lines.chunks_exact_mut(n_lines).enumerate() {
            let fits = if let (PackedFormat::Bf16, PanelRows::Bf16(rows)) = (panel.format, rows) {
                rows::pairs(simd, rows, at, &mut pairs);
                copy_bf16(&pairs.0, lines)
            } else {
                rows.block(simd, at, &mut block);
                match panel.format {
                    PackedFormat::Bf16 => write_bf16(&block.0, lines),
                    PackedFormat::Q8 => {
                        panel.scales[at] = eight_bits(simd, &block, lines);
                        panel.scales[at].map(f16::is_finite)
                    }
                    PackedFormat::Q4 => {
                        panel.scales[at] = four_bits(simd, &block, lines);
                        panel.scales[at].map(f16::is_finite)
                    }
                }
            };
            if let Some(lane) = fits.iter().position(|fits| !fits) {
                panel.unfit = Some(panel.index * LANES + lane);
            }
        }
    }
}

/// Lines are the pairs as they are. Returns which outputs are finite.
#[inline(always)]
fn copy_bf16(pairs: &Columns, lines: &mut [Line]) -> [bool; LANES] {
    let mut largest = [0u32; LANES];
    for (line, &lanes) in lines.iter_mut().zip(pairs) {
        for (largest, pair) in largest.iter_mut().zip(lanes) {
            *largest = (*largest).max(pair & 0x7fff_0000).max(pair << 16 & 0x7fff_0000);
        }
        line.set(lanes);
    }
    largest.map(|bits| bits < 0x7f80_0000)
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
fn eight_bits<S: Simd>(
    simd: S,
    block: &Aligned<[Lanes; BLOCK]>,
    lines: &mut [Line],
) -> [f16; LANES] {
    let mut largest = [0u32; LANES];
    for values in &block.0 {
        for (largest, value) in largest.iter_mut().zip(values) {
            *largest = (*largest).max(value.abs().to_bits());
        }
    }
    let mut steps = [0.; LANES];
    for (step, largest) in steps.iter_mut().zip(largest) {
        *step = f32::from_bits(largest) / 127.;
    }
    let (scales, inverses) = scales(steps);
    let integers = rounded(simd, block, &inverses, [-127., 127.]);
    for (line, integers) in lines.iter_mut().zip(integers.0.as_chunks().0) {
        line.set(bytes(integers, Bits::Eight));
    }
    scales
}

/// What the value of largest magnitude becomes before it is rounded, with 4 bits.
const LEVELS: [[f32; 3]; 3] = [[-9.4, -9.05, -8.7], [-8.35, -8., -7.65], [-7.3, -6.95, -6.6]];

/// Integers with the least squared error of several: those at which the value of largest magnitude is about −8, each with
/// the scale that fits them best. With integers `i` of values `v`, that scale is `Σi·v / Σi²`, and its squared error
/// `Σv² − (Σi·v)² / Σi²`. Returns the scales, as [`eight_bits`].
#[inline(always)]
fn four_bits<S: Simd>(
    simd: S,
    block: &Aligned<[Lanes; BLOCK]>,
    lines: &mut [Line],
) -> [f16; LANES] {
    const RANGE: [f32; 2] = [-8., 7.];
    let largest = largest(&block.0);
    let (mut best, mut most) = ([0f32; LANES], [0f32; LANES]);
    for levels in LEVELS {
        for (products, squares) in fits(simd, block, &largest, levels, RANGE) {
            for lane in 0..LANES {
                let square = if squares[lane] > 0. { squares[lane] } else { 1. };
                let gain = products[lane] * products[lane] / square;
                let better = gain > most[lane];
                most[lane] = if better { gain } else { most[lane] };
                best[lane] = if better { products[lane] / square } else { best[lane] };
            }
        }
    }
    for (best, largest) in best.iter_mut().zip(largest) {
        *best = if largest.is_finite() { *best } else { largest };
    }
    let (scales, inverses) = scales(best);
    let integers = rounded(simd, block, &inverses, RANGE);
    let (low, high) = integers.0.split_at(BLOCK / 2);
    let halves = low.as_chunks().0.iter().zip(high.as_chunks().0);
    for (line, (low, high)) in lines.iter_mut().zip(halves) {
        let (low, high) = (bytes(low, Bits::Four), bytes(high, Bits::Four));
        let mut lanes = low;
        for (lane, high) in lanes.iter_mut().zip(high) {
            *lane |= high << 4;
        }
        line.set(lanes);
    }
    scales
}

/// `Σi·v` and `Σi²` of the integers `i` in a range at some levels of the `largest` value: so few that all sums are in
/// registers.
#[inline(always)]
fn fits<S: Simd, const N: usize>(
    simd: S,
    block: &Aligned<[Lanes; BLOCK]>,
    largest: &Lanes,
    levels: [f32; N],
    [low, high]: [f32; 2],
) -> [(Lanes, Lanes); N] {
    let mut inverses = [simd.splat(0.); N];
    for (inverses, level) in inverses.iter_mut().zip(levels) {
        let mut lanes = [0.; LANES];
        for (lane, &largest) in lanes.iter_mut().zip(largest) {
            *lane = if largest == 0. { 0. } else { level / largest };
        }
        *inverses = simd.load(&lanes);
    }
    let (low, high) = (simd.splat(low), simd.splat(high));
    let mut sums = [[simd.splat(0.); 2]; N];
    for values in &block.0 {
        let values = simd.load(values);
        for ([products, squares], &inverse) in sums.iter_mut().zip(&inverses) {
            let integers = simd.min(simd.max(simd.mul(values, inverse), low), high);
            let integers = simd.round(integers);
            *products = simd.add(*products, simd.mul(integers, values));
            *squares = simd.add(*squares, simd.mul(integers, integers));
        }
    }
    let mut lanes = [([0.; LANES], [0.; LANES]); N];
    for ([products, squares], lanes) in sums.into_iter().zip(&mut lanes) {
        simd.store(products, &mut lanes.0);
        simd.store(squares, &mut lanes.1);
    }
    lanes
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
    for ((scale, wide), value) in scales.iter_mut().zip(&wide).zip(&values) {
        let short = wide.abs() < value.abs().min(MIN_NORMAL);
        *scale = f16::from_bits(scale.to_bits() + u16::from(short));
    }
    scales.convert_to_f32_slice(&mut wide);
    for scale in &mut wide {
        *scale = if *scale == 0. { 0. } else { scale.recip() };
    }
    (scales, wide)
}

/// Nearest integers in a range of `block` times `inverses`, ties to even, as the bits of [`ROUND`] plus the integer.
#[inline(always)]
fn rounded<S: Simd>(
    simd: S,
    block: &Aligned<[Lanes; BLOCK]>,
    inverses: &Lanes,
    [low, high]: [f32; 2],
) -> Aligned<[[u32; LANES]; BLOCK]> {
    let (inverses, round) = (simd.load(inverses), simd.splat(ROUND));
    let (low, high) = (simd.splat(low), simd.splat(high));
    let mut integers = Aligned([[0; LANES]; BLOCK]);
    for (to, values) in integers.0.iter_mut().zip(&block.0) {
        let values = simd.mul(simd.load(values), inverses);
        let values = simd.add(simd.min(simd.max(values, low), high), round);
        simd.store(values, bytemuck::cast_mut(to));
    }
    integers
}

/// Four integers of [`rounded`] as bytes, the first in the lowest.
#[inline(always)]
fn bytes(four: &[[u32; LANES]; 4], bits: Bits) -> [u32; LANES] {
    let offset = (bits.offset() as u32).wrapping_sub(ROUND.to_bits());
    // With the offset, each integer is a byte; until then, carries cancel.
    let offsets = offset.wrapping_mul(0x0101_0101);
    let mut lanes = [0; LANES];
    for (lane, to) in lanes.iter_mut().enumerate() {
        let upper = (four[1][lane] << 8).wrapping_add(four[2][lane] << 16);
        let upper = upper.wrapping_add(four[3][lane] << 24);
        *to = four[0][lane].wrapping_add(upper).wrapping_add(offsets);
    }
    lanes
}

/// Bits of the nearest bf16, ties to even; NaN stays NaN. Without branches, so that loops vectorise.
#[inline(always)]
pub(super) fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let nan = bits >> 16 | 0x40;
    (if value.is_nan() { nan } else { nearest }) as u16
}

use half::{bf16, f16};
use rayon::prelude::*;

use super::PackedFormat;
use super::layout::{BF16_LINES, BLOCK, Bits, LANES, Line, Panels, Quantised};

impl Panels {
    /// Packs rows in the checkpoint layout; outputs and inputs are padded with zeros to whole panels and blocks.
    pub(super) fn pack(format: PackedFormat, stored: &[f32], [d_out, d_in]: [usize; 2]) -> Self {
        let n_blocks = d_in.div_ceil(BLOCK);
        let all = d_out.div_ceil(LANES) * n_blocks;
        let inputs = |block: usize, lane: usize| {
            let (output, from) = (block / n_blocks * LANES + lane, block % n_blocks * BLOCK);
            let mut values = [0f32; BLOCK];
            if output < d_out {
                let row = &stored[output * d_in..][..d_in][from..];
                let n = row.len().min(BLOCK);
                values[..n].copy_from_slice(&row[..n]);
            }
            values
        };
        match format {
            PackedFormat::Bf16 => {
                let mut lines = vec![Line::ZERO; all * BF16_LINES];
                let blocks = lines.par_chunks_exact_mut(BF16_LINES).enumerate();
                blocks.for_each(|(block, lines)| {
                    (0..LANES).for_each(|lane| round(lines, lane, &inputs(block, lane)));
                });
                Self::Bf16(lines)
            }
            PackedFormat::Q8 => Self::Quantised(quantised(Bits::Eight, all, inputs)),
            PackedFormat::Q4 => Self::Quantised(quantised(Bits::Four, all, inputs)),
        }
    }
}

fn round(lines: &mut [Line], lane: usize, values: &[f32; BLOCK]) {
    for (line, pair) in lines.iter_mut().zip(values.chunks_exact(2)) {
        for (bytes, value) in line.lane_mut(lane).chunks_exact_mut(2).zip(pair) {
            bytes.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
        }
    }
}

fn quantised(
    bits: Bits,
    n_blocks: usize,
    inputs: impl Fn(usize, usize) -> [f32; BLOCK] + Sync,
) -> Quantised {
    let mut lines = vec![Line::ZERO; n_blocks * bits.lines()];
    let mut scales = vec![[f16::ZERO; LANES]; n_blocks];
    let blocks = lines.par_chunks_exact_mut(bits.lines()).zip(&mut scales).enumerate();
    blocks.for_each(|(block, (lines, scales))| {
        for (lane, scale) in scales.iter_mut().enumerate() {
            let fit = Fit::of(bits, &inputs(block, lane));
            *scale = fit.scale;
            fit.write(bits, lines, lane);
        }
    });
    Quantised { bits, lines, scales }
}

/// Nearest integer of a small number, ties to even. Without a call, so that loops vectorise.
fn nearest(value: f32) -> i32 {
    /// Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.;
    (value + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
}

/// What the value of largest magnitude becomes before it is rounded, with 4 bits.
const LEVELS: [f32; 9] = [-9.4, -9.05, -8.7, -8.35, -8., -7.65, -7.3, -6.95, -6.6];

/// Integers of a block of one output, with their scale.
struct Fit {
    scale: f16,
    integers: [i32; BLOCK],
}

impl Fit {
    /// 8 bits: the largest magnitude becomes 127. 4 bits: of several scales, at which the value of largest magnitude is
    /// about −8, refitted to their integers by least squares, the one with the least squared error.
    fn of(bits: Bits, values: &[f32; BLOCK]) -> Self {
        let largest = values
            .iter()
            .copied()
            .fold(0f32, |largest, value| if value.abs() > largest.abs() { value } else { largest });
        match bits {
            Bits::Eight => Self::with_scale(values, largest.abs() / 127., [-127., 127.]),
            Bits::Four => {
                let fit = |levels| {
                    let first = Self::with_scale(values, largest / levels, [-8., 7.]);
                    let refit = Self::with_scale(values, first.least_squares(values), [-8., 7.]);
                    if refit.error(values) < first.error(values) { refit } else { first }
                };
                let fits = LEVELS.map(fit);
                let best =
                    fits.into_iter().min_by(|a, b| a.error(values).total_cmp(&b.error(values)));
                best.expect("several fits")
            }
        }
    }

    fn with_scale(values: &[f32; BLOCK], scale: f32, [low, high]: [f32; 2]) -> Self {
        let scale = f16::from_f32(scale);
        let inverse = if scale == f16::ZERO { 0. } else { scale.to_f32().recip() };
        let integers = values.map(|it| nearest((it * inverse).clamp(low, high)));
        Self { scale, integers }
    }

    /// Scale of least squared error for these integers.
    fn least_squares(&self, values: &[f32; BLOCK]) -> f32 {
        let terms = self.integers.iter().zip(values);
        let (product, square) = terms.fold((0f32, 0f32), |(product, square), (&it, &value)| {
            (product + it as f32 * value, square + (it * it) as f32)
        });
        if square > 0. { product / square } else { 0. }
    }

    fn error(&self, values: &[f32; BLOCK]) -> f32 {
        let scale = self.scale.to_f32();
        self.integers
            .iter()
            .zip(values)
            .map(|(&it, value)| (it as f32 * scale - value).powi(2))
            .sum()
    }

    fn write(&self, bits: Bits, lines: &mut [Line], lane: usize) {
        for (four, integers) in self.integers.chunks_exact(4).enumerate() {
            let line = &mut lines[four % bits.lines()];
            for (byte, integer) in line.lane_mut(lane).iter_mut().zip(integers) {
                let stored = (integer + bits.offset()) as u8;
                *byte |= if four < bits.lines() { stored } else { stored << 4 };
            }
        }
    }
}

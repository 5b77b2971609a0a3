use half::f16;

use crate::blocks::SCALE_BYTES;
use crate::matrix::layout::{Bits, LANES, Line};

/// Packs stored blocks of a format: their bits stay, in the order of lanes. Returns an output with a scale that is not finite.
#[inline(always)]
pub(super) fn copy(
    rows: &[&[u8]; LANES],
    bits: Bits,
    lines: &mut [Line],
    scales: &mut [[f16; LANES]],
) -> Option<usize> {
    match bits {
        Bits::Eight => copy_lines::<{ Bits::Eight.lines() }>(rows, bits, lines, scales),
        Bits::Four => copy_lines::<{ Bits::Four.lines() }>(rows, bits, lines, scales),
    }
}

#[inline(always)]
fn copy_lines<const LINES: usize>(
    rows: &[&[u8]; LANES],
    bits: Bits,
    lines: &mut [Line],
    scales: &mut [[f16; LANES]],
) -> Option<usize> {
    /// Bytes of a lane in a line.
    const LANE: usize = 4;
    let bytes = SCALE_BYTES + LANE * LINES;
    // Integers of 8 bits are stored with their sign, and packed with the offset; those of 4 bits have it in both.
    let (sign, zero) = match bits {
        Bits::Eight => (0x8080_8080, 0x8080_8080),
        Bits::Four => (0, 0x8888_8888),
    };
    let mut unfit = None;
    let blocks = lines.as_chunks_mut::<LINES>().0.iter_mut().zip(scales);
    for (at, (lines, scales)) in blocks.enumerate() {
        let mut lanes = [[zero; LANES]; LINES];
        for (lane, (row, scale)) in rows.iter().zip(scales).enumerate() {
            let Some(block) = row.get(at * bytes..).and_then(|row| row.get(..bytes)) else {
                continue;
            };
            let (stored, integers) = block.split_at(SCALE_BYTES);
            *scale = f16::from_le_bytes([stored[0], stored[1]]);
            if !scale.is_finite() {
                unfit = Some(lane);
            }
            for (lanes, four) in lanes.iter_mut().zip(integers.as_chunks::<LANE>().0) {
                lanes[lane] = u32::from_le_bytes(*four) ^ sign;
            }
        }
        lines.iter_mut().zip(lanes).for_each(|(line, lanes)| line.set(lanes));
    }
    unfit
}

use half::f16;

use super::Panel;
use crate::blocks::SCALE_BYTES;
use crate::matrix::layout::{Bits, LANES, PackedFormat};

/// Packs stored blocks of the panel's format: their bits stay, in the order of lanes.
#[inline(always)]
pub(super) fn copy(rows: &[&[u8]; LANES], panel: &mut Panel<'_>) {
    match panel.format {
        PackedFormat::Q8 => copy_lines::<{ Bits::Eight.lines() }>(rows, panel, Bits::Eight),
        PackedFormat::Q4 => copy_lines::<{ Bits::Four.lines() }>(rows, panel, Bits::Four),
        PackedFormat::Bf16 => unreachable!("bf16 has no blocks"),
    }
}

#[inline(always)]
fn copy_lines<const LINES: usize>(rows: &[&[u8]; LANES], panel: &mut Panel<'_>, bits: Bits) {
    /// Bytes of a lane in a line.
    const LANE: usize = 4;
    let bytes = SCALE_BYTES + LANE * LINES;
    // Integers of 8 bits are stored with their sign, and packed with the offset; those of 4 bits have it in both.
    let (sign, zero) = match bits {
        Bits::Eight => (0x8080_8080, 0x8080_8080),
        Bits::Four => (0, 0x8888_8888),
    };
    let blocks = panel.lines.as_chunks_mut::<LINES>().0.iter_mut().zip(panel.scales.iter_mut());
    for (at, (lines, scales)) in blocks.enumerate() {
        let mut lanes = [[zero; LANES]; LINES];
        for (lane, (row, scale)) in rows.iter().zip(scales.iter_mut()).enumerate() {
            let Some(block) = row.get(at * bytes..).and_then(|row| row.get(..bytes)) else {
                continue;
            };
            let (stored, integers) = block.split_at(SCALE_BYTES);
            *scale = f16::from_le_bytes([stored[0], stored[1]]);
            if !scale.is_finite() {
                panel.unfit = Some(panel.index * LANES + lane);
            }
            for (lanes, four) in lanes.iter_mut().zip(integers.as_chunks::<LANE>().0) {
                lanes[lane] = u32::from_le_bytes(*four) ^ sign;
            }
        }
        lines.iter_mut().zip(lanes).for_each(|(line, lanes)| line.set(lanes));
    }
}

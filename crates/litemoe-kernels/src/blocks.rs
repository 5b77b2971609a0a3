//! Blocks of quantised values as files hold them: rows of `block_q8_0` and `block_q4_0` of ggml (`ggml-common.h`).

use half::f16;
use litemoe_core::WeightDtype;

/// Values of a block: they share a scale.
pub const BLOCK_VALUES: usize = 32;

/// Bytes of the scale, the first of a block: little-endian f16.
pub(crate) const SCALE_BYTES: usize = 2;

/// Bytes of a block of [`BLOCK_VALUES`] values; `None` for formats without blocks.
///
/// - q8: 32 signed integers of 8 bits, `scale · integer`.
/// - q4: 16 bytes, of which byte `i` holds value `i` in its low half and value `16 + i` in its high half,
///   `scale · (half − 8)`.
pub const fn block_bytes(dtype: WeightDtype) -> Option<usize> {
    match dtype {
        WeightDtype::F32 | WeightDtype::Bf16 => None,
        WeightDtype::Q8 => Some(SCALE_BYTES + BLOCK_VALUES),
        WeightDtype::Q4 => Some(SCALE_BYTES + BLOCK_VALUES / 2),
    }
}

/// Dequantises the blocks of a row; of the last, as many values as there are.
///
/// # Panics
/// When the format has no blocks, or the number of values is not that of the blocks.
pub fn dequantise(dtype: WeightDtype, blocks: &[u8], values: &mut [f32]) {
    let bytes = block_bytes(dtype).unwrap_or_else(|| panic!("{dtype} has no blocks"));
    let n_blocks = values.len().div_ceil(BLOCK_VALUES);
    assert_eq!(blocks.len(), n_blocks * bytes, "bytes of {n_blocks} blocks of {dtype}");
    for (block, values) in blocks.chunks_exact(bytes).zip(values.chunks_mut(BLOCK_VALUES)) {
        let (scale, integers) = block.split_at(SCALE_BYTES);
        let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
        if dtype == WeightDtype::Q8 {
            let all = values.iter_mut().zip(integers);
            all.for_each(|(value, &integer)| *value = f32::from(integer as i8) * scale);
        } else {
            let low = integers.iter().map(|byte| byte & 0xf);
            let halves = low.chain(integers.iter().map(|byte| byte >> 4));
            let all = values.iter_mut().zip(halves);
            all.for_each(|(value, half)| *value = (f32::from(half) - 8.) * scale);
        }
    }
}

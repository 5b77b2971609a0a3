use super::simd::{Aligned, Columns, Lanes, Simd, Square};
use crate::matrix::layout::{BLOCK, LANES, PackedFormat};
use crate::{StoredRows, block_bytes};

/// The rows of a panel, as they are stored.
#[allow(clippy::large_enum_variant)] // one at a time, on the stack
pub(super) enum PanelRows<'a> {
    /// Little-endian bf16; rows behind the last are empty.
    Bf16([&'a [u8]; LANES]),
    /// Blocks of the format that is packed; rows behind the last are empty.
    Blocks([&'a [u8]; LANES]),
    /// f32, each padded with zeros to whole blocks.
    F32(&'a [f32]),
}

impl<'a> PanelRows<'a> {
    /// Rows of panel `index`, to be packed in a format. `space`: for f32 values of 16 rows of whole blocks.
    pub(super) fn read(
        stored: &'a dyn StoredRows,
        format: PackedFormat,
        index: usize,
        space: &'a mut Vec<f32>,
    ) -> Self {
        let [d_out, d_in] = stored.shape();
        let rows = index * LANES..d_out.min((index + 1) * LANES);
        let all = |bytes_of_row: usize, find: &dyn Fn(usize) -> Option<&'a [u8]>| {
            let mut all: [&[u8]; LANES] = [&[]; LANES];
            let stored_so = all.iter_mut().zip(rows.clone()).all(|(bytes, row)| {
                let found = find(row);
                assert!(
                    found.is_none_or(|row| row.len() == bytes_of_row),
                    "a row of {d_in} stored values"
                );
                *bytes = found.unwrap_or_default();
                found.is_some()
            });
            stored_so.then_some(all)
        };
        if let Some(block) = block_bytes(format.dtype()) {
            let bytes_of_row = d_in.div_ceil(BLOCK) * block;
            if let Some(rows) = all(bytes_of_row, &|row| stored.blocks(row, format.dtype())) {
                return Self::Blocks(rows);
            }
        }
        if let Some(rows) = all(2 * d_in, &|row| stored.bf16(row)) {
            return Self::Bf16(rows);
        }
        let width = d_in.next_multiple_of(BLOCK);
        space.resize(LANES * width, 0.);
        for (row, values) in (index * LANES..).zip(space.chunks_exact_mut(width)) {
            if row < d_out {
                stored.read(row, &mut values[..d_in]);
            } else {
                values.fill(0.);
            }
        }
        Self::F32(space)
    }

    /// Values of block `at`, inputs ascending.
    #[inline(always)]
    pub(super) fn block<S: Simd>(&self, simd: S, at: usize, block: &mut Aligned<[Lanes; BLOCK]>) {
        match self {
            Self::Bf16(rows) => {
                let mut columns = Aligned([[0; LANES]; LANES]);
                pairs(simd, rows, at, &mut columns);
                widen(&columns, block);
            }
            Self::F32(rows) => values(simd, rows, at, block),
            Self::Blocks(_) => unreachable!("blocks are packed as they are stored"),
        }
    }
}

/// Bytes of a block in a row of bf16.
const BF16_BLOCK: usize = 2 * BLOCK;

/// Pairs of adjacent inputs of block `at`, the first in the low half, per output. Zeros behind the ends of rows.
#[inline(always)]
pub(super) fn pairs<S: Simd>(
    simd: S,
    rows: &[&[u8]; LANES],
    at: usize,
    pairs: &mut Aligned<Columns>,
) {
    let start = at * BF16_BLOCK;
    let mut square: Square<'_> = [&[0; BF16_BLOCK]; LANES];
    let mut whole = true;
    for (to, row) in square.iter_mut().zip(rows) {
        match row.get(start..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => *to = bytes,
            None => whole = false,
        }
    }
    if whole {
        simd.transpose(&square, &mut pairs.0);
    } else {
        let ends = ends(rows, start);
        simd.transpose(&ends.each_ref(), &mut pairs.0);
    }
    for pair in pairs.0.as_flattened_mut() {
        *pair = u32::from_le(*pair);
    }
}

/// What rows have from `start`, then zeros.
#[cold]
fn ends(rows: &[&[u8]; LANES], start: usize) -> [[u8; BF16_BLOCK]; LANES] {
    let mut ends = [[0u8; BF16_BLOCK]; LANES];
    for (end, row) in ends.iter_mut().zip(rows) {
        let bytes = row.get(start..).unwrap_or_default();
        let n = bytes.len().min(BF16_BLOCK);
        end[..n].copy_from_slice(&bytes[..n]);
    }
    ends
}

/// Values of pairs, inputs ascending.
#[inline(always)]
fn widen(pairs: &Aligned<Columns>, block: &mut Aligned<[Lanes; BLOCK]>) {
    for ([low, high], pairs) in block.0.as_chunks_mut::<2>().0.iter_mut().zip(&pairs.0) {
        for ((low, high), pair) in low.iter_mut().zip(high).zip(pairs) {
            *low = f32::from_bits(pair << 16);
            *high = f32::from_bits(pair & 0xffff_0000);
        }
    }
}

/// Values of block `at`, inputs ascending.
#[inline(always)]
fn values<S: Simd>(simd: S, rows: &[f32], at: usize, block: &mut Aligned<[Lanes; BLOCK]>) {
    let width = rows.len() / LANES;
    for (half, block) in block.0.as_chunks_mut().0.iter_mut().enumerate() {
        let start = at * BLOCK + half * LANES;
        let mut square: Square<'_> = [&[0; BF16_BLOCK]; LANES];
        for (to, row) in square.iter_mut().zip(rows.chunks_exact(width)) {
            let values: &Lanes = row[start..].first_chunk().expect("whole blocks");
            *to = bytemuck::cast_ref(values);
        }
        simd.transpose(&square, bytemuck::cast_mut::<[Lanes; LANES], _>(block));
    }
}

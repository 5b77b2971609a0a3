use super::operands::{Bf16Product, Int8Product};
use crate::matrix::activations::Int8Block;
use crate::matrix::columns::Columns;
use crate::matrix::layout::{Bits, LANES, Line};

/// Inlined, so that a caller with more instructions vectorises it with those.
#[inline(always)]
pub(super) fn bf16(product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
    for panel in columns.panels() {
        let lines = product.panel(panel);
        for row in 0..columns.n_rows() {
            let mut sums = [0f32; LANES];
            for (line, pair) in lines.iter().zip(product.row(row).as_flattened().chunks_exact(2)) {
                let [a, b] = [pair[0].to_bits(), pair[1].to_bits()].map(high);
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let weights = u32::from_le_bytes(line.lane(lane));
                    *sum += a * f32::from_bits(weights << 16);
                    *sum += b * f32::from_bits(weights & !0xffff);
                }
            }
            columns.store(row, panel, &sums);
        }
    }
}

/// A bf16 is the upper half of an f32.
pub(super) fn high(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[inline(always)]
pub(super) fn int8(product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    let bits = product.weights.bits;
    for panel in columns.panels() {
        let (lines, scales) = product.panel(panel);
        let blocks = lines.chunks_exact(bits.lines()).zip(scales);
        for row in 0..columns.n_rows() {
            let mut sums = [0f32; LANES];
            for ((lines, scales), x) in blocks.clone().zip(product.row(row)) {
                let products = integer_sums(bits, lines, x);
                for ((sum, product), scale) in sums.iter_mut().zip(products).zip(scales) {
                    *sum = (product as f32).mul_add(scale.to_f32() * x.scale, *sum);
                }
            }
            columns.store(row, panel, &sums);
        }
    }
}

/// Σ (integer − offset)·x over a block, per output.
#[inline(always)]
fn integer_sums(bits: Bits, lines: &[Line], x: &Int8Block) -> [i32; LANES] {
    let mut sums = [-bits.offset() * x.sum; LANES];
    let mut add = |line: &Line, from: usize, weight: fn(u8) -> u8| {
        let x = &x.integers[from..][..4];
        for (lane, sum) in sums.iter_mut().enumerate() {
            let products = line.lane(lane).map(weight).into_iter().zip(x);
            *sum += products.map(|(weight, &x)| i32::from(weight) * i32::from(x)).sum::<i32>();
        }
    };
    for (at, line) in lines.iter().enumerate() {
        match bits {
            Bits::Eight => add(line, 4 * at, |byte| byte),
            Bits::Four => {
                add(line, 4 * at, |byte| byte & 0xf);
                add(line, 16 + 4 * at, |byte| byte >> 4);
            }
        }
    }
    sums
}

//! AMX: products of tiles of 16 rows of 64 bytes. Rust has no stable intrinsics for it.

#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx512::{halves, int8_from, lanes, load, wide};
use super::operands::{Bf16Product, Int8Product};
use crate::matrix::activations::Int8Block;
use crate::matrix::columns::{Columns, GROUP};
use crate::matrix::layout::{BF16_LINES, Bits, LANES, Line};

/// Rows of a tile.
const ROWS: usize = 16;

/// Configured tiles of this thread: 0 to 3 are results, 4 and 5 rows, 6 and 7 weights. Released when dropped.
///
/// Each assembly block names the tiles that it writes. That they keep their contents from one block to the next is an
/// assumption that the language does not make: compiled code uses no tiles of its own, and the system saves them with
/// the thread's other registers.
struct Tiles;

#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// Tiles of `rows` rows of `bytes` bytes, and of `lines` lines of weights.
    ///
    /// # Safety
    /// AMX is available.
    unsafe fn new(rows: usize, bytes: usize, lines: usize) -> Self {
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [0; 16],
        };
        let shapes = [(rows, 64), (rows, bytes), (lines, 64)];
        for (tile, shape) in [0, 0, 0, 0, 1, 1, 2, 2].into_iter().enumerate() {
            let (rows, bytes) = shapes[shape];
            config.rows[tile] = rows as u8;
            config.bytes_per_row[tile] = bytes as u16;
        }
        // SAFETY: the tiles exist, and the instruction reads the 64 bytes of the configuration. It zeroes all tiles.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const config,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly)
            );
        }
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles exist. The instruction zeroes them.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem)
            );
        }
    }
}

/// Tiles of results that are accumulated at once: each row of inputs is loaded once for as many panels.
const PANELS: usize = GROUP;

pub(super) fn bf16(product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
    let (panels, n_rows) = (columns.panels(), columns.n_rows());
    for row in (0..n_rows).step_by(ROWS) {
        let rows = ROWS.min(n_rows - row);
        // SAFETY: `InstructionSet::Amx` is used only where AMX is available.
        let tiles = unsafe { Tiles::new(rows, 64, BF16_LINES) };
        for first in panels.clone().step_by(PANELS) {
            let n = PANELS.min(panels.end - first);
            let sums = bf16_sums(&tiles, product, [row, rows], first, n);
            for (panel, sums) in (first..first + n).zip(&sums) {
                for (at, sums) in sums.iter().take(rows).enumerate() {
                    columns.store(row + at, panel, sums);
                }
            }
        }
    }
}

type Sums = [[f32; LANES]; ROWS];

/// `n` panels from `panel`, for `rows` rows from `row`.
fn bf16_sums(
    _: &Tiles,
    product: &Bf16Product<'_>,
    [row, rows]: [usize; 2],
    panel: usize,
    n: usize,
) -> [Sums; PANELS] {
    let mut sums = [[[0f32; LANES]; ROWS]; PANELS];
    let x = &product.x[row * product.n_blocks..][..rows * product.n_blocks];
    let stride = product.n_blocks * size_of_val(&x[0]);
    let weights: [&[Line]; PANELS] =
        std::array::from_fn(|at| if at < n { product.panel(panel + at) } else { &[] });
    // SAFETY: the tiles are configured for `rows` rows of 64 bytes and 16 lines. Each load of inputs reads one block of
    // each of these rows of `x`, each load of weights the 16 lines of one block; the stores write `rows` rows of 64 bytes
    // to `sums`. The sums stay in tiles 0 to 3 and the inputs in tile 4 from one block of assembly to the next, and the
    // configuration all the while, since no other code uses tiles, see `Tiles`.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack)
        );
        for block in 0..product.n_blocks {
            let lines = |at: usize| weights[at][block * BF16_LINES..][..BF16_LINES].as_ptr();
            asm!(
                "tileloadd tmm4, [{x} + {stride}]",
                x = in(reg) x[block..].as_ptr(),
                stride = in(reg) stride,
                out("tmm4") _,
                options(nostack, readonly)
            );
            macro_rules! multiply {
                ($at:literal, $sums:tt, $weights:tt) => {
                    if $at < n {
                        let lines = lines($at);
                        (0..BF16_LINES).for_each(|line| prefetch(lines.wrapping_add(line)));
                        asm!(
                            concat!("tileloadd ", $weights, ", [{lines} + {stride}]"),
                            concat!("tdpbf16ps ", $sums, ", tmm4, ", $weights),
                            lines = in(reg) lines,
                            stride = in(reg) size_of::<Line>(),
                            out($sums) _,
                            out($weights) _,
                            options(nostack, readonly)
                        );
                    }
                };
            }
            multiply!(0, "tmm0", "tmm6");
            multiply!(1, "tmm1", "tmm7");
            multiply!(2, "tmm2", "tmm6");
            multiply!(3, "tmm3", "tmm7");
        }
        macro_rules! store {
            ($at:literal) => {
                asm!(
                    concat!("tilestored [{sums} + {stride}], tmm", $at),
                    sums = in(reg) sums[$at].as_mut_ptr(),
                    stride = in(reg) size_of::<[f32; LANES]>(),
                    options(nostack)
                );
            };
        }
        store!(0);
        store!(1);
        store!(2);
        store!(3);
    }
    sums
}

/// A hint to load the line 2 KiB ahead of this one.
fn prefetch(line: *const Line) {
    // SAFETY: a prefetch reads nothing and may be given any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(32).cast()) }
}

/// Full tiles of rows; the rows left are multiplied without tiles, which gives the same bits.
pub(super) fn int8(product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    let n_tiles = columns.n_rows() / ROWS;
    if n_tiles > 0 {
        // SAFETY: `InstructionSet::Amx` is used only where AMX is available.
        let tiles = unsafe { Tiles::new(ROWS, 32, 8) };
        let mut bytes = Vec::new();
        for panel in columns.panels() {
            let (lines, _) = product.panel(panel);
            let lines = match product.weights.bits {
                Bits::Eight => lines,
                Bits::Four => {
                    // SAFETY: as above.
                    unsafe { to_bytes(lines, &mut bytes) };
                    &bytes
                }
            };
            for tile in 0..n_tiles {
                // SAFETY: as above.
                let sums = unsafe { int8_sums(&tiles, product, lines, panel, tile * ROWS) };
                for (at, sums) in sums.iter().enumerate() {
                    columns.store(tile * ROWS + at, panel, sums);
                }
            }
        }
    }
    int8_from(n_tiles * ROWS, product, columns);
}

/// Spreads integers of 4 bits over bytes: 4 lines become 8.
#[target_feature(enable = "avx512f,avx512bw")]
fn to_bytes(lines: &[Line], bytes: &mut Vec<Line>) {
    bytes.resize(2 * lines.len(), Line::ZERO);
    for (lines, bytes) in lines.chunks_exact(4).zip(bytes.chunks_exact_mut(8)) {
        let (low, high) = bytes.split_at_mut(4);
        for ((line, low), high) in lines.iter().zip(low).zip(high) {
            let halves = halves(load(line));
            for (half, line) in halves.into_iter().zip([low, high]) {
                // SAFETY: a line has 64 bytes and is aligned to as many.
                unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), half) };
            }
        }
    }
}

/// One panel, given as `lines` of bytes, for the 16 rows from `row`.
#[target_feature(enable = "avx512f,avx512bw,f16c,fma")]
fn int8_sums(
    _: &Tiles,
    product: &Int8Product<'_>,
    lines: &[Line],
    panel: usize,
    row: usize,
) -> Sums {
    let n_blocks = product.n_blocks;
    let x = &product.x[row * n_blocks..][..ROWS * n_blocks];
    let offset = product.weights.bits.offset();
    let mut products = [[_mm512_setzero_si512(); ROWS]; 2];
    let mut sums = [_mm512_setzero_ps(); ROWS];
    let (_, scales) = product.panel(panel);
    for (block, (lines, scales)) in lines.chunks_exact(8).zip(scales).enumerate() {
        let products = &mut products[block % 2];
        macro_rules! multiply {
            ($products:tt, $x:tt, $lines:tt) => {
                // SAFETY: the tiles are configured for 16 rows of 32 bytes and 8 lines. The loads read the integers of
                // one block of 16 rows of `x`, and the 8 lines of one block; the store writes 16 rows of 64 bytes.
                // Of the tiles, only the configuration must outlast the assembly block, see `Tiles`.
                unsafe {
                    asm!(
                        concat!("tilezero ", $products),
                        concat!("tileloadd ", $x, ", [{x} + {rows}]"),
                        concat!("tileloadd ", $lines, ", [{lines} + {line}]"),
                        concat!("tdpbsud ", $products, ", ", $x, ", ", $lines),
                        concat!("tilestored [{products} + {line}], ", $products),
                        x = in(reg) x[block..].as_ptr(),
                        rows = in(reg) n_blocks * size_of::<Int8Block>(),
                        lines = in(reg) lines.as_ptr(),
                        line = in(reg) size_of::<Line>(),
                        products = in(reg) products.as_mut_ptr(),
                        out($products) _,
                        out($x) _,
                        out($lines) _,
                        options(nostack)
                    );
                }
            };
        }
        // In turns, so that one block's product does not wait for the other's.
        if block % 2 == 0 {
            multiply!("tmm0", "tmm4", "tmm6");
        } else {
            multiply!("tmm1", "tmm5", "tmm7");
        }
        let scales = wide(scales);
        for (at, (sums, products)) in sums.iter_mut().zip(products).enumerate() {
            let x = &x[at * n_blocks + block];
            let products = _mm512_add_epi32(*products, _mm512_set1_epi32(-offset * x.sum));
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x.scale));
            *sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, *sums);
        }
    }
    sums.map(|sums| lanes(sums))
}

use bytemuck::Zeroable;
use half::f16;
use litemoe_core::WeightDtype;

use super::memory::Buffer;

/// Outputs of a panel: the 32-bit lanes of a 512-bit register, the columns of a tile.
pub(super) const LANES: usize = 16;
/// Inputs of a block: they share a scale per output.
pub(super) const BLOCK: usize = 32;

/// 64 bytes: a cache line, a 512-bit register, a row of a tile. Lane `j`, bytes `4·j` to `4·j + 3`, belongs to output `j`
/// of the panel.
#[derive(Debug, Clone, Copy, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

impl Line {
    pub(super) const ZERO: Self = Self([0; 64]);

    pub(super) fn lane(&self, lane: usize) -> [u8; 4] {
        std::array::from_fn(|byte| self.0[4 * lane + byte])
    }

    /// All lanes, as little-endian numbers.
    #[inline(always)]
    pub(super) fn lanes(&self) -> [u32; LANES] {
        bytemuck::cast::<_, [u32; LANES]>(self.0).map(u32::from_le)
    }

    /// Sets all lanes, given as little-endian numbers.
    #[inline(always)]
    pub(super) fn set(&mut self, lanes: [u32; LANES]) {
        self.0 = bytemuck::cast(lanes.map(u32::to_le));
    }
}

/// Integer format of quantised weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    Eight,
    Four,
}

impl Bits {
    /// Lines of a block.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Four => 4,
        }
    }

    /// What is added to an integer before it is stored, so that none is negative.
    pub(super) const fn offset(self) -> i32 {
        match self {
            Self::Eight => 128,
            Self::Four => 8,
        }
    }
}

/// The blocks of all panels, panel by panel, inputs ascending. The layout is that of the instructions that multiply 2
/// (bf16) or 4 (int8) adjacent inputs of 16 outputs at once, so that nothing is rearranged on use.
#[derive(Debug)]
pub(super) enum Panels {
    /// 16 lines per block; line `i` holds inputs `2·i` and `2·i + 1`.
    Bf16(Buffer<Line>),
    Quantised(Quantised),
}

/// Weights `scale · (integer − offset)`.
#[derive(Debug)]
pub(super) struct Quantised {
    pub(super) bits: Bits,
    /// 8 bits: line `i` of a block holds inputs `4·i` to `4·i + 3`. 4 bits: its low halves hold those, its high halves
    /// inputs `16 + 4·i` to `16 + 4·i + 3`.
    pub(super) lines: Buffer<Line>,
    /// Scales of a block, one per output.
    pub(super) scales: Buffer<[f16; LANES]>,
}

/// Lines of a block of bf16 weights.
pub(super) const BF16_LINES: usize = BLOCK / 2;

/// Format of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PackedFormat {
    Bf16,
    Q8,
    Q4,
}

impl PackedFormat {
    /// `None` for f32, which is not packed.
    pub(crate) fn of(dtype: WeightDtype) -> Option<Self> {
        match dtype {
            WeightDtype::F32 => None,
            WeightDtype::Bf16 => Some(Self::Bf16),
            WeightDtype::Q8 => Some(Self::Q8),
            WeightDtype::Q4 => Some(Self::Q4),
        }
    }

    pub(super) fn dtype(self) -> WeightDtype {
        match self {
            Self::Bf16 => WeightDtype::Bf16,
            Self::Q8 => WeightDtype::Q8,
            Self::Q4 => WeightDtype::Q4,
        }
    }
}

/// Frozen weight `[d_out, d_in]`, packed for products with few or many rows.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(super) d_out: usize,
    pub(super) d_in: usize,
    pub(super) panels: Panels,
}

impl Matrix {
    /// Blocks of a row.
    pub(super) fn n_blocks(&self) -> usize {
        self.d_in.div_ceil(BLOCK)
    }
}

use bytemuck::{Pod, Zeroable};
use half::bf16;

/// Values of a [`Lanes`].
pub(super) const LANES: usize = 16;

/// Values of a cache line: the unit of vector registers.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0.; LANES]);
}

/// As many values as [`Lanes`], in bf16.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
pub(super) struct Bf16Lanes(pub(super) [u16; LANES]);

/// 16 values of the KV cache in its number format. In registers they are f32.
pub(super) trait StoredLanes: Pod + Send + Sync {
    /// A stored value.
    type Value: Pod;

    /// The value that is stored: the nearest one, of two the even one. NaN stays NaN.
    fn value(of: f32) -> Self::Value;
}

impl StoredLanes for Lanes {
    type Value = f32;

    #[inline(always)]
    fn value(of: f32) -> f32 {
        of
    }
}

impl StoredLanes for Bf16Lanes {
    type Value = u16;

    #[inline(always)]
    fn value(of: f32) -> u16 {
        bf16::from_f32(of).to_bits()
    }
}

/// The lanes as numbers.
#[inline(always)]
pub(super) fn values(lanes: &[Lanes]) -> &[f32] {
    bytemuck::cast_slice(lanes)
}

/// The lanes as numbers, to be written.
#[inline(always)]
pub(super) fn values_mut<L: StoredLanes>(lanes: &mut [L]) -> &mut [L::Value] {
    bytemuck::cast_slice_mut(lanes)
}

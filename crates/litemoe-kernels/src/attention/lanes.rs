use bytemuck::{Pod, Zeroable};

/// Values of a [`Lanes`].
pub(super) const LANES: usize = 16;

/// Values of a cache line: the unit of vector registers.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0.; LANES]);
}

/// The lanes as numbers.
#[inline(always)]
pub(super) fn values(lanes: &[Lanes]) -> &[f32] {
    bytemuck::cast_slice(lanes)
}

/// The lanes as numbers, to be written.
#[inline(always)]
pub(super) fn values_mut(lanes: &mut [Lanes]) -> &mut [f32] {
    bytemuck::cast_slice_mut(lanes)
}

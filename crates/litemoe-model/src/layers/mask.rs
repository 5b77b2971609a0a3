/// Mask value of scores and logits: below all of them, and the sum of two is finite.
pub(crate) const MASKED: f32 = -1e30;

/// Mask value of scores and logits: below all of them, and two of it still have a finite sum.
pub(crate) const MASKED: f32 = -1e30;

/// Schema version of `scores.json`.
pub const SCORES_VERSION: u32 = 2;

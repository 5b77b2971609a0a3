use std::ops::Range;

use super::key_values::KeyValues;

/// Queries of a row in packed tokens, and the keys and values up to the last of them.
#[derive(Debug)]
pub struct AttentionRow<'a> {
    /// The row's tokens. They are the last tokens of `keys_values`.
    pub tokens: Range<usize>,
    /// Keys and values of the text so far, these tokens included.
    pub keys_values: &'a KeyValues,
}

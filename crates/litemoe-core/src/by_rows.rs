use std::ops::Range;

use crate::{ByTokens, Packing};

/// Which value applies to which rows of a batch: none to rows in no range.
#[derive(Debug)]
pub struct ByRows<'a, T> {
    ranges: Vec<(Range<usize>, &'a T)>,
}

impl<'a, T> ByRows<'a, T> {
    /// One value for every row.
    pub fn all(value: &'a T) -> Self {
        Self { ranges: vec![(0..usize::MAX, value)] }
    }

    /// A value for each range of rows, which may go past the batch's end.
    ///
    /// # Panics
    /// When two ranges share a row.
    pub fn ranges(mut ranges: Vec<(Range<usize>, &'a T)>) -> Self {
        ranges.retain(|(rows, _)| !rows.is_empty());
        ranges.sort_by_key(|(rows, _)| rows.start);
        let apart = ranges.is_sorted_by(|(first, _), (second, _)| first.end <= second.start);
        assert!(apart, "a row has one value");
        Self { ranges }
    }

    /// Whether no row has a value.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The value of each of a batch's `n` rows.
    pub fn of_rows(&self, n: usize) -> Vec<Option<&'a T>> {
        let mut rows = vec![None; n];
        for (range, value) in &self.ranges {
            rows[range.start.min(n)..range.end.min(n)].fill(Some(*value));
        }
        rows
    }

    /// The value of each packed token.
    pub fn of_tokens(&self, packing: &Packing) -> ByTokens<'a, T> {
        let values = self.of_rows(packing.batch());
        let rows = packing.row_ranges().zip(values);
        ByTokens::new(rows.filter_map(|(tokens, value)| Some((tokens, value?))), packing.tokens())
    }

    /// The value of all of a batch's `n` rows, where they have the same one.
    pub fn of_all(&self, n: usize) -> Option<&'a T> {
        match &self.ranges[..] {
            [(rows, value)] if rows.start == 0 && rows.end >= n => Some(*value),
            _ => None,
        }
    }
}

impl<T> Default for ByRows<'_, T> {
    fn default() -> Self {
        Self { ranges: Vec::new() }
    }
}

impl<T> Clone for ByRows<'_, T> {
    fn clone(&self) -> Self {
        Self { ranges: self.ranges.clone() }
    }
}

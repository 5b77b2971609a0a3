use std::ops::Range;

use crate::{ByTokens, Packing};

/// Values assigned to ranges of a batch's rows; a row outside all ranges has none.
#[derive(Debug)]
pub struct ByRows<'a, T> {
    ranges: Vec<(Range<usize>, &'a T)>,
}

impl<'a, T> ByRows<'a, T> {
    /// One value for all rows.
    pub fn all(value: &'a T) -> Self {
        Self { ranges: vec![(0..usize::MAX, value)] }
    }

    /// A value for each range of rows. A range may extend past the end of the batch.
    ///
    /// # Panics
    /// When two ranges overlap.
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

    /// The value of each of the first `n` rows.
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

    /// The value that all of the first `n` rows share, if they share one.
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

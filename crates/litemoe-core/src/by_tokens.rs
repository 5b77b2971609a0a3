use std::ops::Range;

use burn::tensor::Tensor;

/// Values assigned to ranges of a batch's packed tokens; a token outside all ranges has none.
#[derive(Debug)]
pub struct ByTokens<'a, T> {
    ranges: Vec<(Range<usize>, &'a T)>,
    tokens: usize,
}

impl<'a, T> ByTokens<'a, T> {
    /// Takes ranges in ascending order and joins adjacent ranges that share a value.
    pub(crate) fn new(
        ranges: impl IntoIterator<Item = (Range<usize>, &'a T)>,
        tokens: usize,
    ) -> Self {
        let mut joined: Vec<(Range<usize>, &'a T)> = Vec::new();
        for (range, value) in ranges {
            match joined.last_mut() {
                Some((last, same)) if last.end == range.start && std::ptr::eq(*same, value) => {
                    last.end = range.end;
                }
                _ => joined.push((range, value)),
            }
        }
        Self { ranges: joined, tokens }
    }

    /// Whether no token has a value.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The value that all tokens share, if they share one.
    pub fn of_all(&self) -> Option<&'a T> {
        match &self.ranges[..] {
            [(range, value)] if range.len() == self.tokens => Some(*value),
            _ => None,
        }
    }

    /// All tokens in order, split where the value changes.
    pub fn pieces(&self) -> Vec<(Range<usize>, Option<&'a T>)> {
        let (mut pieces, mut end) = (Vec::new(), 0);
        for (range, value) in &self.ranges {
            if end < range.start {
                pieces.push((end..range.start, None));
            }
            pieces.push((range.clone(), Some(*value)));
            end = range.end;
        }
        if end < self.tokens {
            pieces.push((end..self.tokens, None));
        }
        pieces
    }

    /// Keeps only the values for which `keep` returns true.
    pub fn filter(&self, mut keep: impl FnMut(&T) -> bool) -> Self {
        let ranges = self.ranges.iter().filter(|(_, value)| keep(value)).cloned().collect();
        Self { ranges, tokens: self.tokens }
    }

    /// Adds `delta(value, x)` of each range to the same range of `y`; a `None` adds nothing.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - `y` and output: `[tokens, d_out]`
    pub fn add(
        &self,
        x: Tensor<2>,
        y: Tensor<2>,
        delta: impl Fn(&T, Tensor<2>) -> Option<Tensor<2>>,
    ) -> Tensor<2> {
        if let Some(value) = self.of_all() {
            return match delta(value, x) {
                Some(delta) => y + delta,
                None => y,
            };
        }
        if self.is_empty() {
            return y;
        }
        let piece = |(range, value): (Range<usize>, Option<&T>)| {
            let of = |all: &Tensor<2>| all.clone().narrow(0, range.start, range.len());
            match value.and_then(|value| delta(value, of(&x))) {
                Some(delta) => of(&y) + delta,
                None => of(&y),
            }
        };
        Tensor::cat(self.pieces().into_iter().map(piece).collect(), 0)
    }
}

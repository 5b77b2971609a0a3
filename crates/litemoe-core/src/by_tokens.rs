use std::ops::Range;

use burn::tensor::Tensor;

/// Which value applies to which packed tokens of a batch: none to tokens in no range.
#[derive(Debug)]
pub struct ByTokens<'a, T> {
    ranges: Vec<(Range<usize>, &'a T)>,
    tokens: usize,
}

impl<'a, T> ByTokens<'a, T> {
    /// Values for ranges in ascending order, of which neighbours with one value are joined.
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

    /// The value of all tokens, where they have the same one.
    pub fn of_all(&self) -> Option<&'a T> {
        match &self.ranges[..] {
            [(range, value)] if range.len() == self.tokens => Some(*value),
            _ => None,
        }
    }

    /// All tokens in order, cut where the value changes.
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

    /// Only the values for which something holds.
    pub fn filter(&self, mut keep: impl FnMut(&T) -> bool) -> Self {
        let ranges = self.ranges.iter().filter(|(_, value)| keep(value)).cloned().collect();
        Self { ranges, tokens: self.tokens }
    }

    /// Adds to `y` what `delta` makes of `x` and each range's value, where it makes something.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - `y` and output: `[tokens, d_out]`
    pub fn add(
        &self,
        x: &Tensor<2>,
        y: Tensor<2>,
        delta: impl Fn(&T, Tensor<2>) -> Option<Tensor<2>>,
    ) -> Tensor<2> {
        if let Some(value) = self.of_all() {
            return match delta(value, x.clone()) {
                Some(delta) => y + delta,
                None => y,
            };
        }
        if self.is_empty() {
            return y;
        }
        let piece = |(range, value): (Range<usize>, Option<&T>)| {
            let of = |all: &Tensor<2>| all.clone().narrow(0, range.start, range.len());
            match value.and_then(|value| delta(value, of(x))) {
                Some(delta) => of(&y) + delta,
                None => of(&y),
            }
        };
        Tensor::cat(self.pieces().into_iter().map(piece).collect(), 0)
    }
}

use litemoe_core::{BatchLimits, Sequence, TokenRow, batches};

/// Tokens of rows that are computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Batch {
    /// Tokens of all rows.
    pub(crate) tokens: f64,
    /// Sum of the squared row lengths: values of one head's attention scores.
    pub(crate) squares: f64,
    /// Tokens in the loss, whose logits are computed.
    pub(crate) targets: f64,
}

/// Lengths of rows, encoder tokens included.
#[derive(Debug, Clone)]
pub(crate) struct Lengths(Vec<[f64; 2]>);

impl Lengths {
    pub(crate) fn of(rows: &[Sequence]) -> Self {
        let lengths = |row: &Sequence| [row.n_tokens() as f64, row.n_completion() as f64];
        Self(rows.iter().map(lengths).collect())
    }

    /// Tokens of all rows.
    pub(crate) fn tokens(&self) -> f64 {
        self.0.iter().map(|[tokens, _]| tokens).sum()
    }

    pub(crate) fn n_rows(&self) -> f64 {
        self.0.len() as f64
    }

    /// Mean length of a row.
    pub(crate) fn mean(&self) -> f64 {
        self.tokens() / self.n_rows()
    }

    /// Tokens in the loss.
    pub(crate) fn targets(&self) -> f64 {
        self.0.iter().map(|[_, targets]| targets).sum()
    }

    /// The largest batch of an evaluation: the longest rows, up to `max_tokens` tokens but at least one row.
    pub(crate) fn largest(&self, max_tokens: usize) -> Batch {
        let mut rows = self.0.clone();
        rows.sort_by(|x, y| y[0].total_cmp(&x[0]));
        let mut batch = Batch::default();
        for row in rows {
            if batch.tokens > 0.0 && batch.tokens + row[0] > max_tokens as f64 {
                break;
            }
            batch.add(row);
        }
        batch
    }

    /// The largest of a tuning run's micro-batches of `count` rows, in steps of `batch` rows: three standard deviations
    /// above the mean, and at most the longest rows. A micro-batch is cut out of shuffled epochs that follow each other
    /// without a gap: the end of one, whole ones, and the beginning of another.
    pub(crate) fn largest_random(&self, count: usize, batch: usize) -> Batch {
        let n = self.0.len();
        let high = |value: fn(&[f64; 2]) -> f64| {
            let mut values: Vec<f64> = self.0.iter().map(value).collect();
            values.sort_by(|x, y| y.total_cmp(x));
            // Sums of the longest rows, from none to all.
            let longest: Vec<f64> = std::iter::once(&0.0)
                .chain(&values)
                .scan(0.0, |sum, value| {
                    *sum += value;
                    Some(*sum)
                })
                .collect();
            let mean = longest[n] / n as f64;
            let square = |value: f64| (value - mean).powi(2);
            let variance = values.iter().map(|&it| square(it)).sum::<f64>() / n as f64;
            // Of rows drawn without replacement.
            let spread = |rows: usize| (rows * (n - rows)) as f64 / (n - 1).max(1) as f64;
            let starting_at = |start: usize| {
                let end = (n - start).min(count);
                let (epochs, beginning) = ((count - end) / n, (count - end) % n);
                let most = longest[end] + epochs as f64 * longest[n] + longest[beginning];
                let deviation = (variance * (spread(end) + spread(beginning))).sqrt();
                most.min(count as f64 * mean + 3.0 * deviation)
            };
            // Rows of an epoch at which a micro-batch may begin.
            let apart = common_divisor(common_divisor(count, batch), n);
            (0..n).step_by(apart).map(starting_at).fold(0.0, f64::max)
        };
        Batch {
            tokens: high(|row| row[0]),
            squares: high(|row| row[0] * row[0]),
            targets: high(|row| row[1]),
        }
    }
}

/// Greatest common divisor.
fn common_divisor(x: usize, y: usize) -> usize {
    if y == 0 { x } else { common_divisor(y, x % y) }
}

impl Batch {
    /// Rows of one length, with all tokens but the first in the loss.
    pub(crate) fn of_equal(rows: usize, tokens: usize) -> Self {
        let (rows, tokens) = (rows as f64, tokens as f64);
        let (squares, targets) = (rows * tokens * tokens, rows * (tokens - 1.0));
        Self { tokens: rows * tokens, squares, targets }
    }

    /// The largest batch of scoring: rows in order.
    pub(crate) fn of_scoring(rows: &[Sequence], limits: BatchLimits) -> Self {
        let of = |input: litemoe_core::Input| {
            let mut batch = Self::default();
            let sides = input.rows.iter().chain(input.encoder_rows.iter().flatten());
            sides.for_each(|row| batch.add([row.tokens().len() as f64, 0.0]));
            batch
        };
        let all = batches(rows, limits).into_iter().map(of);
        all.fold(Self::default(), |most, batch| Self {
            tokens: most.tokens.max(batch.tokens),
            squares: most.squares.max(batch.squares),
            targets: 0.0,
        })
    }

    fn add(&mut self, [tokens, targets]: [f64; 2]) {
        self.tokens += tokens;
        self.squares += tokens * tokens;
        self.targets += targets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[usize]) -> Vec<Sequence> {
        let row = |&len: &usize| Sequence {
            tokens: vec![0; len],
            completion: (0..len).map(|token| token + 1 == len).collect(),
            encoder: None,
        };
        lengths.iter().map(row).collect()
    }

    #[test]
    fn the_longest_rows_make_the_largest_batch() {
        let lengths = Lengths::of(&rows(&[3, 8, 5, 2]));
        assert_eq!((lengths.tokens(), lengths.targets()), (18.0, 4.0));
        let batch = |tokens, squares, targets| Batch { tokens, squares, targets };
        assert_eq!(lengths.largest(13), batch(13.0, 89.0, 2.0));
        assert_eq!(lengths.largest(1), batch(8.0, 64.0, 1.0));
        // At most the longest rows.
        assert_eq!(lengths.largest_random(2, 2), batch(13.0, 89.0, 2.0));
        let equal = Lengths::of(&rows(&[4; 100]));
        assert_eq!(equal.largest_random(10, 10), batch(40.0, 160.0, 10.0));
    }

    #[test]
    fn a_batch_repeats_the_rows_of_more_than_one_epoch() {
        let lengths = Lengths::of(&rows(&[3, 8, 5, 2]));
        let batch = |tokens, squares, targets| Batch { tokens, squares, targets };
        // Whole epochs: every batch is the same.
        assert_eq!(lengths.largest_random(4, 4), batch(18.0, 102.0, 4.0));
        assert_eq!(lengths.largest_random(12, 12), batch(54.0, 306.0, 12.0));
        // Two rows and an epoch.
        assert_eq!(lengths.largest_random(6, 6), batch(31.0, 191.0, 6.0));
        let one = Lengths::of(&rows(&[7]));
        assert_eq!(one.largest_random(256, 256), batch(1792.0, 12544.0, 256.0));
        // Micro-batches of a batch that is no multiple of theirs may begin at any even row.
        assert_eq!(lengths.largest_random(4, 6).tokens, 26.0);
        // The longest row ends one epoch and begins the next: batches begin at any even row.
        let outlier = Lengths::of(&rows(&[90, 1, 1, 1, 1, 1, 1, 1]));
        assert_eq!(outlier.largest_random(6, 6).tokens, 184.0);
    }

    #[test]
    fn scoring_takes_rows_in_order() {
        let limits = BatchLimits { rows: 2, tokens: 10 };
        let batch = Batch::of_scoring(&rows(&[3, 4, 9, 2, 2]), limits);
        assert_eq!(batch, Batch { tokens: 9.0, squares: 81.0, targets: 0.0 });
    }
}

use serde::Serialize;

/// Median and range of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) repetitions: usize,
}

impl Spread {
    /// Spread of at least one value.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (n, half) = (values.len(), values.len() / 2);
        let median = match n % 2 {
            1 => values[half],
            _ => f64::midpoint(values[half - 1], values[half]),
        };
        Self { median, least: values[0], most: values[n - 1], repetitions: n }
    }

    /// Speed of `amount` in these seconds; the median is that of the median time.
    pub(super) fn speed(self, amount: f64) -> Self {
        let Self { median, least, most, repetitions } = self;
        let [median, least, most] = [median, most, least].map(|seconds| amount / seconds);
        Self { median, least, most, repetitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_odd_and_even_counts() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(
            spread(&[3.0, 1.0, 9.0]),
            Spread { median: 3.0, least: 1.0, most: 9.0, repetitions: 3 }
        );
        assert_eq!(spread(&[4.0, 1.0]).median, 2.5);
        let speed = spread(&[4.0, 2.0, 8.0]).speed(8.0);
        assert_eq!(speed, Spread { median: 2.0, least: 1.0, most: 4.0, repetitions: 3 });
    }
}

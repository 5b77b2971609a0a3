use serde::Serialize;

/// Lengths of rows.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Lengths {
    /// `tokens`, or `characters` without a model.
    pub(super) unit: &'static str,
    pub(super) min: usize,
    pub(super) median: usize,
    /// Length that 95 % of the rows do not exceed.
    pub(super) p95: usize,
    pub(super) max: usize,
    pub(super) histogram: Vec<Bin>,
}

/// Rows that are longer than half of `up_to`, up to `up_to`, a power of two.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Bin {
    pub(super) up_to: usize,
    pub(super) rows: usize,
}

impl Lengths {
    /// All 0 without lengths.
    pub(super) fn new(unit: &'static str, mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let n = lengths.len();
        // The smallest length that at least this share of the rows does not exceed.
        let quantile = |percent: usize| {
            let rank = (percent * n).div_ceil(100).max(1);
            lengths.get(rank - 1).copied().unwrap_or(0)
        };
        let mut histogram: Vec<Bin> = Vec::new();
        for &length in &lengths {
            let up_to = length.max(1).next_power_of_two();
            while histogram.last().is_none_or(|bin| bin.up_to < up_to) {
                let next = histogram.last().map_or(up_to, |bin| 2 * bin.up_to);
                histogram.push(Bin { up_to: next, rows: 0 });
            }
            if let Some(bin) = histogram.last_mut() {
                bin.rows += 1;
            }
        }
        Self {
            unit,
            min: lengths.first().copied().unwrap_or(0),
            median: quantile(50),
            p95: quantile(95),
            max: lengths.last().copied().unwrap_or(0),
            histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_powers_of_two_without_gaps() {
        let Lengths { min, median, p95, max, histogram, .. } =
            Lengths::new("tokens", vec![40, 5, 3, 4, 8]);
        assert_eq!((min, median, p95, max), (3, 5, 40, 40));
        let bins: Vec<_> = histogram.iter().map(|bin| (bin.up_to, bin.rows)).collect();
        assert_eq!(bins, [(4, 2), (8, 2), (16, 0), (32, 0), (64, 1)]);
    }

    #[test]
    fn quantiles_are_lengths_of_rows() {
        let lengths = Lengths::new("tokens", (1..=100).collect());
        assert_eq!((lengths.median, lengths.p95), (50, 95));
        let none = Lengths::new("tokens", Vec::new());
        assert_eq!((none.min, none.median, none.max, none.histogram.len()), (0, 0, 0, 0));
    }
}

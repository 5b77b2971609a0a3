use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of bootstrap resamples.
const RESAMPLES: usize = 2000;

/// Bootstrap confidence interval (95 %, percentile method) of a mean: resamples of the same size are drawn with
/// replacement from `values`. If all values are equal the interval has zero width.
///
/// The resamples are the same in every run and on every platform.
///
/// Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3.
///
/// # Panics
/// If `values` is empty.
pub fn mean_95(values: &[f64]) -> [f64; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled_mean(values, &mut rng)).collect();
    means.sort_unstable_by(f64::total_cmp);
    [quantile(&means, 0.025), quantile(&means, 0.975)]
}

/// Confidence interval (95 %) of a share of right answers: [`mean_95`] of ones and zeros. If all rows are right, or
/// none is, resampling has no variance, and the open end is the exact Clopper–Pearson bound instead, .025^(1/n) from
/// the end.
///
/// Source: Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial"
/// (Biometrika 26, 1934).
///
/// # Panics
/// If `right` is empty.
pub fn share_95(right: &[bool]) -> [f64; 2] {
    let bound = 0.025_f64.powf(1.0 / right.len() as f64);
    if right.iter().all(|&right| right) {
        return [bound, 1.0];
    }
    if !right.contains(&true) {
        return [0.0, 1.0 - bound];
    }
    mean_95(&right.iter().map(|&right| f64::from(u8::from(right))).collect::<Vec<_>>())
}

fn resampled_mean(values: &[f64], rng: &mut ChaCha8Rng) -> f64 {
    let sum: f64 = values.iter().map(|_| values[below(values.len(), rng)]).sum();
    sum / values.len() as f64
}

/// A uniform random integer below `len`.
fn below(len: usize, rng: &mut ChaCha8Rng) -> usize {
    ((u128::from(rng.next_u64()) * len as u128) >> 64) as usize
}

/// The `p`-quantile: the smallest of the sorted values that is not below a share `p` of them.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted[rank.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest k at which the cumulative distribution function of Bin(n, p) reaches `share`. In log space, because
    /// (1 − p)ⁿ underflows.
    fn binomial_quantile(n: u32, p: f64, share: f64) -> f64 {
        let mut log = f64::from(n) * (1.0 - p).ln();
        let (mut k, mut reached) = (0, log.exp());
        while reached < share && k < n {
            log += (f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p)).ln();
            k += 1;
            reached += log.exp();
        }
        f64::from(k)
    }

    #[test]
    fn the_binomial_quantiles_are_those_of_the_tables() {
        for (n, p, share, k) in [
            (10, 0.5, 0.025, 2.0),
            (10, 0.5, 0.975, 8.0),
            (20, 0.1, 0.5, 2.0),
            (300, 0.99, 0.5, 297.0),
        ] {
            assert_eq!(binomial_quantile(n, p, share), k, "Bin({n}, {p})");
        }
    }

    /// The mean of n draws from k ones and n − k zeros is Bin(n, k/n) / n, so its quantiles are known. Of 2000 draws, a
    /// share of .025 ± .0105 is below the interval in all but 3 of 100 000 cases (three standard deviations of .0035).
    #[test]
    fn shares_have_the_quantiles_of_the_binomial_distribution() {
        for (n, k) in [(10, 5), (40, 3), (300, 24), (300, 150), (300, 297), (1000, 587)] {
            let values: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < k))).collect();
            let (n_rows, p) = (f64::from(n), f64::from(k) / f64::from(n));
            let [low, high] = mean_95(&values).map(|share| (share * n_rows).round());
            let within = |found: f64, share: f64| {
                let [least, most] = [share - 0.0105, share + 0.0105];
                (binomial_quantile(n, p, least)..=binomial_quantile(n, p, most)).contains(&found)
            };
            assert!(within(low, 0.025), "{k} of {n}: {low}");
            assert!(within(high, 0.975), "{k} of {n}: {high}");
        }
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        assert_eq!(mean_95(&[1.0; 7]), [1.0, 1.0]);
        assert_eq!(mean_95(&[0.0]), [0.0, 0.0]);
    }

    /// At the bound (1 − p)ⁿ = .025: n such rows in a row have probability 1/40.
    #[test]
    fn a_share_of_all_or_none_keeps_its_doubt() {
        for n in [1, 7, 300] {
            let [low, high] = share_95(&vec![true; n]);
            assert_eq!(high, 1.0);
            assert!((low.powi(n as i32) - 0.025).abs() < 1e-12, "{n}: {low}");
            assert_eq!(share_95(&vec![false; n]), [0.0, 1.0 - low]);
        }
        assert_eq!(share_95(&[true, false, true]), mean_95(&[1.0, 0.0, 1.0]));
    }

    #[test]
    fn the_interval_moves_and_grows_with_the_values() {
        let values = [0.0, 1.0, 2.0, 5.0, 8.0];
        let (low, high) = (mean_95(&values), mean_95(&values.map(|value| 3.0 * value + 1.0)));
        assert!(low.iter().zip(high).all(|(x, y)| (3.0 * x + 1.0 - y).abs() < 1e-12));
    }
}

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

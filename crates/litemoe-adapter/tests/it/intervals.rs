use litemoe_adapter::{mean_95, share_95};

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
    for (n, p, share, k) in
        [(10, 0.5, 0.025, 2.0), (10, 0.5, 0.975, 8.0), (20, 0.1, 0.5, 2.0), (300, 0.99, 0.5, 297.0)]
    {
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

use litemoe_core::ExactSums;
use proptest::collection::vec;
use proptest::prelude::*;

/// Parts of a single sum, in order.
fn parts(sums: &ExactSums) -> Vec<f64> {
    let json = serde_json::to_string(sums).expect("JSON");
    let parts: Vec<Vec<f64>> = serde_json::from_str(&json).expect("a list per part");
    parts.concat()
}

fn sum(terms: &[f64]) -> ExactSums {
    let mut sum = ExactSums::zeros(1);
    terms.iter().for_each(|&term| sum.add(0, term));
    sum
}

fn bits(sums: &ExactSums) -> Vec<u64> {
    parts(sums).into_iter().map(f64::to_bits).collect()
}

/// Reference without rounding: a sum in units of the smallest positive f64, as base-2³² digits, least significant
/// first.
fn reference(terms: &[f64]) -> Vec<i64> {
    let mut digits = vec![0i64; 70];
    for term in terms {
        let (exponent, fraction) =
            ((term.to_bits() >> 52) & 0x7ff, term.to_bits() & ((1 << 52) - 1));
        let mantissa = if exponent == 0 { fraction } else { fraction | (1 << 52) };
        let shift = exponent.saturating_sub(1) as usize;
        let wide = u128::from(mantissa) << (shift % 32);
        for (place, digit) in (0..3).zip(&mut digits[shift / 32..]) {
            let part = (wide >> (32 * place)) as u32;
            *digit += i64::from(part) * if *term < 0.0 { -1 } else { 1 };
        }
    }
    for place in 0..digits.len() - 1 {
        let carry = digits[place] >> 32;
        digits[place] -= carry << 32;
        digits[place + 1] += carry;
    }
    digits
}

/// Finite terms, small enough that no sum overflows.
fn terms() -> impl Strategy<Value = Vec<f64>> {
    let any = any::<f64>().prop_filter("finite", |term| term.abs() < 1e300);
    vec(prop_oneof![any, -1.0f64..1.0, Just(0.0), Just(-0.0), Just(f64::MIN_POSITIVE / 8.0)], 0..24)
}

proptest! {
    #[test]
    fn a_sum_is_exact_and_canonical(terms in terms()) {
        let parts = parts(&sum(&terms));
        prop_assert_eq!(reference(&parts), reference(&terms));
        // Each part is the rounded remainder: at most half a unit in the last place of the part before it.
        for (index, pair) in parts.windows(2).enumerate() {
            prop_assert_eq!(sum(&parts[index..]).values()[0], pair[0]);
            prop_assert_eq!(pair[0] + pair[1] / 2.0, pair[0]);
            prop_assert!(pair[1] != 0.0);
        }
    }

    #[test]
    fn a_sum_is_rounded_to_nearest_and_even(
        terms in vec((any::<i32>(), 0u32..80).prop_map(|(m, e)| i128::from(m) << e), 0..24),
        halves in vec(any::<i32>().prop_map(|m| i128::from(m) << 53), 0..3),
        ones in 0i128..3,
    ) {
        let terms = [terms, halves, vec![1; ones as usize]].concat();
        let exact: i128 = terms.iter().sum();
        let floats: Vec<f64> = terms.iter().map(|&term| term as f64).collect();
        prop_assert_eq!(sum(&floats).values()[0], exact as f64);
    }

    #[test]
    fn neither_order_nor_groups_change_a_bit(
        (terms, shuffled) in terms().prop_flat_map(|terms| (Just(terms.clone()), Just(terms).prop_shuffle())),
        cut in 0usize..24,
    ) {
        let cut = cut.min(terms.len());
        let mut groups = sum(&shuffled[cut..]);
        groups.merge(&sum(&shuffled[..cut]));
        prop_assert_eq!(bits(&groups), bits(&sum(&terms)));
    }

    #[test]
    fn a_sum_less_its_terms_is_zero(terms in terms()) {
        let mut sum = sum(&terms);
        terms.iter().rev().for_each(|&term| sum.add(0, -term));
        prop_assert_eq!(bits(&sum), [0]);
    }

    #[test]
    fn sums_are_kept_apart_and_read_back(columns in vec(terms(), 1..5)) {
        let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let mut sums = ExactSums::zeros(columns.len());
        for row in 0..longest {
            let terms: Vec<f64> =
                columns.iter().map(|column| column.get(row).copied().unwrap_or(0.0)).collect();
            sums.add_each(&terms);
        }
        for (column, &value) in columns.iter().zip(sums.values()) {
            prop_assert_eq!(value, sum(column).values()[0]);
        }
        let json = serde_json::to_string(&sums).expect("JSON");
        let read: ExactSums = serde_json::from_str(&json).expect("sums");
        prop_assert_eq!(serde_json::to_string(&read).expect("JSON"), json);
        prop_assert_eq!(read, sums);
    }
}

#[test]
fn ties_are_decided_by_what_is_below_them() {
    let (half, below) = (2f64.powi(-53), 2f64.powi(-200));
    assert_eq!(sum(&[1.0, half]).values(), [1.0]);
    assert_eq!(sum(&[1.0, half, below]).values(), [1.0 + f64::EPSILON]);
    assert_eq!(sum(&[1.0, half, -below]).values(), [1.0]);
    assert_eq!(sum(&[-1.0, -half, -below]).values(), [-1.0 - f64::EPSILON]);
    assert_eq!(parts(&sum(&[1e100, 1.0, -1e100, 1e-100])), [1.0, 1e-100]);
}

#[test]
fn a_sum_out_of_range_stays_out() {
    for terms in [&[f64::INFINITY, 1.0][..], &[f64::NAN, 1.0], &[f64::MAX, f64::MAX, -f64::MAX]] {
        let mut sums = ExactSums::zeros(2);
        terms.iter().for_each(|&term| sums.add(0, term));
        sums.add(1, 2.0);
        assert!(!sums.values()[0].is_finite(), "{terms:?}");
        assert_eq!(sums.values()[1], 2.0);
    }
}

#[test]
fn parts_that_do_not_fit_are_refused_and_others_made_canonical() {
    for text in ["[]", "[[1.0], [1.0, 2.0]]", "[[1e999]]", "[1.0]", "[[null]]"] {
        assert!(serde_json::from_str::<ExactSums>(text).is_err(), "{text}");
    }
    let sums: ExactSums =
        serde_json::from_str("[[1.0, 3.0], [0.5, -3.0], [0.0, 0.0]]").expect("sums");
    assert_eq!(serde_json::to_string(&sums).expect("JSON"), "[[1.5,0.0]]");
}

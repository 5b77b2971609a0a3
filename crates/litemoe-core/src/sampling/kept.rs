use std::cmp::Ordering;

use crate::Sampling;

/// Number of tokens sorted in the first attempt to reach `top_p`; usually enough.
const FIRST_ORDERED: usize = 128;

/// Candidate tokens after top-k, top-p and min-p, with unnormalised probabilities.
pub(super) fn kept(rule: &Sampling, scores: &[f64]) -> Vec<(u32, f64)> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |score: &f64| ((score - max) / f64::from(rule.temperature)).exp();
    let mut kept: Vec<(u32, f64)> = (0u32..).zip(scores.iter().map(weight)).collect();
    keep_top_k(rule.top_k, &mut kept);
    keep_top_p(f64::from(rule.top_p), &mut kept);
    // The largest weight is 1.
    kept.retain(|&(_, weight)| weight >= f64::from(rule.min_p));
    kept
}

fn keep_top_k(top_k: usize, weights: &mut Vec<(u32, f64)>) {
    if 0 < top_k && top_k < weights.len() {
        order_first(weights, top_k);
        weights.truncate(top_k);
    }
}

/// Keeps the shortest prefix of the weights, largest first, whose sum reaches the share `top_p` of the total.
fn keep_top_p(top_p: f64, weights: &mut Vec<(u32, f64)>) {
    if top_p >= 1.0 {
        return;
    }
    let enough = top_p * weights.iter().map(|&(_, weight)| weight).sum::<f64>();
    let mut n_ordered = FIRST_ORDERED;
    loop {
        n_ordered = n_ordered.min(weights.len());
        order_first(weights, n_ordered);
        let mut sum = 0.0;
        let reaches = |&(_, weight): &(u32, f64)| {
            sum += weight;
            sum >= enough
        };
        match weights[..n_ordered].iter().position(reaches) {
            Some(last) => return weights.truncate(last + 1),
            None if n_ordered == weights.len() => return,
            None => n_ordered *= 8,
        }
    }
}

/// Partial sort: the `n` largest weights first, in descending order. Ties go to the lower id.
fn order_first(weights: &mut [(u32, f64)], n: usize) {
    let largest_first =
        |x: &(u32, f64), y: &(u32, f64)| -> Ordering { y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)) };
    if n < weights.len() {
        weights.select_nth_unstable_by(n, largest_first);
    }
    weights[..n].sort_unstable_by(largest_first);
}

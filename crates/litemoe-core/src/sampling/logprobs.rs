use std::cmp::Ordering;

/// Log-probabilities (natural logarithm) of the sampled token and of the most probable ones: log-softmax of the raw
/// logits, before bias, penalties and temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Log-probability of the sampled token.
    pub token: f32,
    /// The most probable token ids and their log-probabilities, largest first. Ties go to the lower id.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Log-probabilities of `token` and of the `n_top` most probable tokens.
    ///
    /// # Panics
    /// When `token` is outside the vocabulary of `logits`.
    pub fn new(logits: &[f32], token: u32, n_top: usize) -> Self {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
        let logprob = |logit: f32| (f64::from(logit) - max - sum.ln()) as f32;
        let top = most_probable(logits, n_top).into_iter().map(|(id, logit)| (id, logprob(logit)));
        Self { token: logprob(logits[token as usize]), top: top.collect() }
    }
}

fn most_probable(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let largest_first =
        |x: &(u32, f32), y: &(u32, f32)| -> Ordering { y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)) };
    let mut top: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    if 0 < n && n < top.len() {
        top.select_nth_unstable_by(n, largest_first);
    }
    top.truncate(n);
    top.sort_unstable_by(largest_first);
    top
}

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next token is chosen from logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keeps the tokens whose probabilities, largest first, first reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Seed of the draws: the same seed and logits give the same tokens on every platform.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 }
    }
}

/// Draws tokens by a [`Sampling`] rule.
#[derive(Debug, Clone)]
pub struct Sampler {
    rule: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// Starts the draws of a rule.
    pub fn new(rule: Sampling) -> Self {
        Self { rule, rng: ChaCha8Rng::seed_from_u64(rule.seed) }
    }

    /// The next token given `logits` over the vocabulary, which must not be empty. Ties go to the lower id.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        if self.rule.temperature <= 0.0 {
            return argmax(logits);
        }
        let kept = self.kept(logits);
        let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
        let mut left = self.rng.random::<f64>() * total;
        for &(token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        kept.last().map_or_else(|| argmax(logits), |&(token, _)| token)
    }

    /// The tokens still in play, most probable first, with unnormalised probabilities.
    fn kept(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let weight =
            |logit: f32| ((f64::from(logit) - max) / f64::from(self.rule.temperature)).exp();
        let mut kept: Vec<(u32, f64)> = (0u32..).zip(logits.iter().map(|&l| weight(l))).collect();
        kept.sort_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
        if self.rule.top_k > 0 {
            kept.truncate(self.rule.top_k);
        }
        if self.rule.top_p < 1.0 {
            let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
            let mut sum = 0.0;
            let enough = kept.iter().position(|&(_, weight)| {
                sum += weight;
                sum >= f64::from(self.rule.top_p) * total
            });
            kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        }
        kept
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_zero_is_the_arg_max() {
        assert_eq!(Sampler::new(Sampling::default()).next(&[0.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let rule = Sampling { temperature: 1.0, seed: 7, ..Default::default() };
        let draw = |rule| {
            let mut sampler = Sampler::new(rule);
            (0..50).map(|_| sampler.next(&[0.1, 0.2, 0.3, 0.4])).collect::<Vec<_>>()
        };
        assert_eq!(draw(rule), draw(rule));
        assert_ne!(draw(rule), draw(Sampling { seed: 8, ..rule }));
    }

    #[test]
    fn top_k_and_top_p_leave_only_the_most_probable() {
        let logits = [0.0, 5.0, 4.9, -3.0];
        for rule in [
            Sampling { temperature: 1.0, top_k: 2, ..Default::default() },
            Sampling { temperature: 1.0, top_p: 0.9, ..Default::default() },
        ] {
            let mut sampler = Sampler::new(rule);
            let drawn: std::collections::BTreeSet<_> =
                (0..200).map(|_| sampler.next(&logits)).collect();
            assert_eq!(drawn, [1, 2].into());
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let mut sampler = Sampler::new(Sampling { temperature: 1.0, ..Default::default() });
        let logits = [0.25f32.ln(), 0.75f32.ln()];
        let ones = (0..4000).filter(|_| sampler.next(&logits) == 1).count();
        assert!((2850..3150).contains(&ones), "{ones} of 4000, expected about 3000");
    }
}

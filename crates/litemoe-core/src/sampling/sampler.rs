use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::history::History;
use super::kept::kept;
use crate::{Sampling, TokenSet};

/// Sampler of one text: draws tokens by a [`Sampling`] configuration and keeps the context for its penalties.
#[derive(Debug, Clone)]
pub struct Sampler {
    rule: Sampling,
    rng: ChaCha8Rng,
    history: History,
}

impl Sampler {
    /// Starts sampling; the configuration should be [checked](Sampling::check).
    pub fn new(rule: Sampling) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(rule.seed);
        Self { rule, rng, history: History::default() }
    }

    /// Uses the random stream of text `index`, with the same seed. The default is text 0.
    pub fn for_text(mut self, index: u64) -> Self {
        self.rng.set_stream(index);
        self
    }

    /// Adds prompt tokens to the context. [`Decoding`](crate::Decoding) calls this itself.
    pub fn read(&mut self, prompt: &[u32]) {
        self.history.read(prompt);
    }

    /// Samples the next token from `logits` over the vocabulary, which must not be empty. Ties go to the lower id.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        let scores = self.history.penalised(&self.rule, logits);
        self.sample(&scores)
    }

    /// Samples the next token among those `allowed`: the logits of others are −∞ after bias and penalties. `None` if
    /// none of the vocabulary is allowed.
    pub fn next_of(&mut self, logits: &[f32], allowed: &TokenSet) -> Option<u32> {
        let mut scores = self.history.penalised(&self.rule, logits);
        let is_any = allowed.mask(&mut scores);
        is_any.then(|| self.sample(&scores))
    }

    fn sample(&mut self, scores: &[f64]) -> u32 {
        let token = if self.rule.temperature > 0.0 { self.draw(scores) } else { argmax(scores) };
        self.history.draw(token);
        token
    }

    fn draw(&mut self, scores: &[f64]) -> u32 {
        let kept = kept(&self.rule, scores);
        let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
        let mut left = self.rng.random::<f64>() * total;
        for (token, weight) in kept {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        // Reached only through rounding of the sum.
        argmax(scores)
    }
}

fn argmax(scores: &[f64]) -> u32 {
    let mut best = 0;
    for (token, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = token;
        }
    }
    best as u32
}

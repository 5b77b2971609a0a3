use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::history::History;
use super::kept::kept;
use crate::Sampling;

/// Draws the tokens of one text by a [`Sampling`] rule, and remembers them for the rule's penalties.
#[derive(Debug, Clone)]
pub struct Sampler {
    rule: Sampling,
    rng: ChaCha8Rng,
    history: History,
}

impl Sampler {
    /// Starts the draws of a rule, which should be [checked](Sampling::check).
    pub fn new(rule: Sampling) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(rule.seed);
        Self { rule, rng, history: History::default() }
    }

    /// Draws of the same seed for another text. A sampler is made for text 0.
    pub fn for_text(mut self, index: u64) -> Self {
        self.rng.set_stream(index);
        self
    }

    /// Takes tokens of the prompt into the context. [`Decoding`](crate::Decoding) does that itself.
    pub fn read(&mut self, prompt: &[u32]) {
        self.history.read(prompt);
    }

    /// The next token given `logits` over the vocabulary, which must not be empty. Ties go to the lower id.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        let scores = self.history.penalised(&self.rule, logits);
        let token = if self.rule.temperature > 0.0 { self.draw(&scores) } else { argmax(&scores) };
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
        // Rounding left a little of the sum.
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

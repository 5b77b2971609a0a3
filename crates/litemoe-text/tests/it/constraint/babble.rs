//! Models with random logits.

use litemoe_core::{Generation, GenerationError, Sampler, Sampling, TokenConstraint};
use litemoe_text::{Answer, Finish, Grammar, Tokenizer};

/// A text generated with or without a grammar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) finish: Finish,
}

/// Model whose logits are random numbers of its seed, the step and the token.
#[derive(Debug, Clone)]
pub(crate) struct Babbler {
    seed: u64,
    vocab: usize,
    /// Tokens that become more probable with each step.
    closing: Vec<u32>,
    /// Tokens that are improbable.
    avoided: Vec<u32>,
    /// The most probable token of each step, if any.
    best: Vec<u32>,
}

impl Babbler {
    pub(crate) fn new(tokenizer: &Tokenizer, seed: u64) -> Self {
        let all = 0..tokenizer.vocab() as u32;
        let bytes = |id: u32| tokenizer.token_bytes(id).unwrap();
        let is_closing = |id: &u32| matches!(&*bytes(*id), b"\"" | b"}" | b"]" | b"\"}" | b"\"]");
        let is_avoided = |id: &u32| bytes(*id).iter().all(u8::is_ascii_whitespace);
        Self {
            seed,
            vocab: tokenizer.vocab(),
            closing: all.clone().filter(is_closing).collect(),
            avoided: all.filter(is_avoided).collect(),
            best: Vec::new(),
        }
    }

    /// The same, to which these tokens are the most probable ones.
    pub(crate) fn insisting(tokenizer: &Tokenizer, seed: u64, best: &[u32]) -> Self {
        Self { best: best.to_vec(), ..Self::new(tokenizer, seed) }
    }

    fn logits(&self, step: usize) -> Vec<f32> {
        let number = |token: usize| {
            let mut x = self.seed ^ (step as u64) << 40 ^ token as u64;
            for factor in [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
                x = (x ^ x >> 29).wrapping_mul(factor);
            }
            (x >> 40) as f32 / (1u64 << 24) as f32 * 6.0
        };
        let mut logits: Vec<f32> = (0..self.vocab).map(number).collect();
        for &token in &self.closing {
            logits[token as usize] += step as f32 / 2.0;
        }
        for &token in &self.avoided {
            logits[token as usize] -= 8.0;
        }
        if let Some(&best) = self.best.get(step) {
            logits[best as usize] += 1000.0;
        }
        logits
    }

    /// Generates a text of at most `max` tokens.
    pub(crate) fn generate(
        &self,
        tokenizer: &Tokenizer,
        grammar: Option<&Grammar>,
        sampling: &Sampling,
        max: usize,
    ) -> Result<Text, GenerationError> {
        let constraint: Option<Box<dyn TokenConstraint>> =
            grammar.map(|grammar| Box::new(grammar.constraint()) as _);
        let generation = Generation::new(vec![0], max, Sampler::new(sampling.clone()));
        let mut generation = generation.with_constraint(constraint);
        let mut answer = tokenizer.answer(&[]);
        let (mut text, mut tokens) = (String::new(), Vec::new());
        loop {
            let piece = match generation.pending() {
                [] => answer.finish().unwrap(),
                _ => {
                    let drawn = generation.advance(&self.logits(tokens.len()))?.unwrap();
                    tokens.push(drawn.token);
                    answer.push(&drawn).unwrap()
                }
            };
            text += &piece.text;
            if let Some(finish) = piece.finish {
                return Ok(Text { text, tokens, finish });
            }
        }
    }
}

/// The text of an answer of these tokens and an end token.
pub(crate) fn said(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let end = *tokenizer.end_ids().first().unwrap();
    let mut answer: Answer<'_> = tokenizer.answer(&[]);
    let tokens = tokens.iter().copied().chain([end]);
    let drawn = tokens.map(|token| Ok(litemoe_core::SampledToken { token, logprobs: None }));
    answer.pieces(drawn).map(|piece| piece.unwrap().text).collect()
}

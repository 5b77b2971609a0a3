use std::collections::BTreeMap;

use crate::Sampling;

/// Tokens of a context and how often each was sampled; 0 for tokens that are only in the prompt.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    draws: BTreeMap<u32, u32>,
}

impl History {
    pub(super) fn read(&mut self, prompt: &[u32]) {
        for &token in prompt {
            self.draws.entry(token).or_default();
        }
    }

    pub(super) fn draw(&mut self, token: u32) {
        *self.draws.entry(token).or_default() += 1;
    }

    /// Logits after logit bias and penalties.
    pub(super) fn penalised(&self, rule: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut scores: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        for (&token, &bias) in &rule.logit_bias {
            if let Some(score) = scores.get_mut(token as usize) {
                *score += f64::from(bias);
            }
        }
        for (&token, &n_draws) in &self.draws {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = penalised(rule, *score, n_draws);
            }
        }
        scores
    }
}

/// Penalised logit of a token in the context.
fn penalised(rule: &Sampling, score: f64, n_draws: u32) -> f64 {
    let repetition = f64::from(rule.repetition_penalty);
    let score = if score < 0.0 { score * repetition } else { score / repetition };
    if n_draws == 0 {
        return score;
    }
    let (presence, frequency) = (rule.presence_penalty, rule.frequency_penalty);
    score - f64::from(presence) - f64::from(frequency) * f64::from(n_draws)
}

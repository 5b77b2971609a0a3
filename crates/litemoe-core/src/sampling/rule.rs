use std::collections::BTreeMap;

use crate::SamplingError;

/// Sampling configuration.
///
/// Steps, in the order of transformers' `GenerationMixin._get_logits_processor`: logit bias, penalties, temperature,
/// top-k, top-p, min-p, then one random draw. `temperature` 0 takes the arg max after bias and penalties.
///
/// The *context* is the prompt and the tokens sampled so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Temperature: divides the logits; 0 is greedy decoding.
    pub temperature: f32,
    /// Top-k: keeps the k most probable tokens; 0 keeps all. Ties at the cutoff go to the lower id (transformers keeps
    /// all of them), so 1 is greedy.
    pub top_k: usize,
    /// Top-p, nucleus sampling ("The Curious Case of Neural Text Degeneration", arXiv 1904.09751): keeps the most
    /// probable tokens until their probabilities sum to p; 1 keeps all, 0 one.
    pub top_p: f32,
    /// Min-p ("Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", arXiv 2407.01082): keeps
    /// tokens whose probability is at least this share of the largest; 0 keeps all.
    pub min_p: f32,
    /// Repetition penalty ("CTRL: A Conditional Transformer Language Model for Controllable Generation", arXiv
    /// 1909.05858; transformers' `RepetitionPenaltyLogitsProcessor`): divides the positive logits of the context's
    /// tokens and multiplies the negative ones; 1 has no effect.
    pub repetition_penalty: f32,
    /// Presence penalty (OpenAI API): subtracted from the logit of every token sampled before. Prompt tokens do not
    /// count.
    pub presence_penalty: f32,
    /// Frequency penalty (OpenAI API): the same, times how often the token was sampled.
    pub frequency_penalty: f32,
    /// Logit bias: added to the logits of these tokens before all other steps.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Random seed: the same seed and logits give the same tokens on every platform.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy decoding.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Checks the ranges, which are those of transformers or, for parameters of the OpenAI API, of that API.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] for the first value outside its range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let expect = |parameter, value: f32, holds, expected| match holds {
            true => Ok(()),
            false => Err(SamplingError::OutOfRange { parameter, value, expected }),
        };
        let share = |parameter, value: f32| {
            expect(parameter, value, (0.0..=1.0).contains(&value), "between 0 and 1")
        };
        let penalty = |parameter, value: f32| {
            expect(parameter, value, (-2.0..=2.0).contains(&value), "between -2 and 2")
        };
        let (temperature, repetition) = (self.temperature, self.repetition_penalty);
        let is_divisor = temperature >= 0.0 && temperature.is_finite();
        expect("temperature", temperature, is_divisor, "a number, at least 0")?;
        share("top_p", self.top_p)?;
        share("min_p", self.min_p)?;
        let is_factor = repetition > 0.0 && repetition.is_finite();
        expect("repetition_penalty", repetition, is_factor, "a number above 0")?;
        penalty("presence_penalty", self.presence_penalty)?;
        penalty("frequency_penalty", self.frequency_penalty)?;
        self.logit_bias.values().try_for_each(|&bias| {
            expect("logit_bias", bias, (-100.0..=100.0).contains(&bias), "between -100 and 100")
        })
    }

    /// Checks that the tokens of the logit bias are below `vocab`.
    ///
    /// # Errors
    /// [`SamplingError::UnknownToken`]
    pub fn check_tokens(&self, vocab: usize) -> Result<(), SamplingError> {
        match self.logit_bias.keys().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(SamplingError::UnknownToken { token, vocab }),
            None => Ok(()),
        }
    }
}

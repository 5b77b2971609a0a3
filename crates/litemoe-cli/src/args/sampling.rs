use std::collections::BTreeMap;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use litemoe_core::Sampling;

/// Sampling parameters and stop strings of the commands that generate text.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Sampling temperature, at least 0: divides the logits; 0 is greedy decoding.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.temperature))]
    temperature: f32,
    /// Top-k: sample from this many most probable tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Top-p (nucleus sampling), in [0, 1]: sample from the most probable tokens whose probabilities sum to this; 1
    /// keeps all, 0 keeps one.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.top_p))]
    top_p: f32,
    /// Min-p, in [0, 1]: sample from the tokens whose probability is at least this share of the largest; 0 keeps all.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.min_p))]
    min_p: f32,
    /// Repetition penalty, above 0: divides the positive logits of tokens in the prompt or the answer, and multiplies
    /// the negative ones; 1 has no effect.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.repetition_penalty))]
    repetition_penalty: f32,
    /// Presence penalty, in [-2, 2]: subtracted from the logit of every token that is already in the answer.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.presence_penalty))]
    presence_penalty: f32,
    /// Frequency penalty, in [-2, 2]: subtracted from a token's logit once for each time it is in the answer.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.frequency_penalty))]
    frequency_penalty: f32,
    /// Random seed of sampling: the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Stop string: ends the answer before this text; may be repeated.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
}

/// Parser of one sampling parameter that checks its range.
fn number(
    field: fn(&mut Sampling) -> &mut f32,
) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync {
    move |text| {
        let mut rule = Sampling::default();
        *field(&mut rule) = text.parse().map_err(|_| "it is not a number".to_owned())?;
        rule.check().map_err(|error| error.to_string())?;
        Ok(*field(&mut rule))
    }
}

impl SamplingArgs {
    /// The sampling configuration.
    pub(crate) fn rule(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: BTreeMap::new(),
            seed: self.seed,
        }
    }
}

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use litemoe_core::Sampling;

/// How an answer is drawn and what ends it, the same on every command that answers.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Divides the logits before sampling; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.temperature))]
    temperature: f32,
    /// Keep this many most probable tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep the tokens whose probabilities first reach this sum.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.top_p))]
    top_p: f32,
    /// Keep the tokens that are at least this share as probable as the most probable one.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.min_p))]
    min_p: f32,
    /// Divides the positive logits of tokens that are in the prompt or the answer, multiplies negative ones; 1 is none.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.repetition_penalty))]
    repetition_penalty: f32,
    /// Taken off the logits of tokens that are in the answer.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.presence_penalty))]
    presence_penalty: f32,
    /// Taken off the logits of tokens as often as they are in the answer.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|rule| &mut rule.frequency_penalty))]
    frequency_penalty: f32,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End the answer before this text; may be repeated.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
}

/// Reads a number that a rule may have in one of its fields.
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
    /// The rule.
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

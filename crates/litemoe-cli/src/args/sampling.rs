use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use litemoe_core::Sampling;

/// Sampling parameters and stop strings of the commands that generate text. Those that are not given are the model's own.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Sampling temperature, at least 0: divides the logits; 0 is greedy decoding [default: that of the model's
    /// generation_config.json if it has do_sample, else 0].
    #[arg(long, allow_negative_numbers = true, value_parser = number(|rule| &mut rule.temperature))]
    temperature: Option<f32>,
    /// Top-k: sample from this many most probable tokens; 0 keeps all [default: the model's, as for --temperature, else
    /// 0].
    #[arg(long)]
    top_k: Option<usize>,
    /// Top-p (nucleus sampling), in [0, 1]: sample from the most probable tokens whose probabilities sum to this; 1
    /// keeps all, 0 keeps one [default: the model's, as for --temperature, else 1].
    #[arg(long, allow_negative_numbers = true, value_parser = number(|rule| &mut rule.top_p))]
    top_p: Option<f32>,
    /// Min-p, in [0, 1]: sample from the tokens whose probability is at least this share of the largest; 0 keeps all
    /// [default: the model's, as for --temperature, else 0].
    #[arg(long, allow_negative_numbers = true, value_parser = number(|rule| &mut rule.min_p))]
    min_p: Option<f32>,
    /// Repetition penalty, above 0: divides the positive logits of tokens in the prompt or the answer, and multiplies
    /// the negative ones; 1 has no effect [default: that of the model's generation_config.json, else 1].
    #[arg(long, allow_negative_numbers = true, value_parser = number(|rule| &mut rule.repetition_penalty))]
    repetition_penalty: Option<f32>,
    /// Presence penalty, in [-2, 2]: subtracted from the logit of every token that is already in the answer [default:
    /// 0].
    #[arg(long, allow_negative_numbers = true, value_parser = number(|rule| &mut rule.presence_penalty))]
    presence_penalty: Option<f32>,
    /// Frequency penalty, in [-2, 2]: subtracted from a token's logit once for each time it is in the answer [default:
    /// 0].
    #[arg(long, allow_negative_numbers = true, value_parser = number(|rule| &mut rule.frequency_penalty))]
    frequency_penalty: Option<f32>,
    /// Random seed of sampling: the same seed gives the same text [default: 0].
    #[arg(long)]
    seed: Option<u64>,
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
    /// The sampling configuration; `own` is the model's.
    pub(crate) fn rule(&self, own: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(own.temperature),
            top_k: self.top_k.unwrap_or(own.top_k),
            top_p: self.top_p.unwrap_or(own.top_p),
            min_p: self.min_p.unwrap_or(own.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(own.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(own.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(own.frequency_penalty),
            seed: self.seed.unwrap_or(own.seed),
            ..own
        }
    }
}

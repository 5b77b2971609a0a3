use std::collections::BTreeMap;

use litemoe_core::Sampling;
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Maximum temperature in a request, that of OpenAI's API.
const MAX_TEMPERATURE: f32 = 2.0;

/// Reads the sampling parameters: OpenAI's, and `top_k`, `min_p` and `repetition_penalty`. Those that are missing are
/// those of `defaults`.
pub(crate) fn take(
    fields: &mut Fields,
    max_logit_bias: usize,
    defaults: &Sampling,
) -> Result<Sampling, ApiError> {
    let temperature = fields.optional::<f32>("temperature", "a number")?;
    let mut number =
        |name, default| fields.optional::<f32>(name, "a number").map(|n| n.unwrap_or(default));
    let sampling = Sampling {
        temperature: temperature.unwrap_or(defaults.temperature),
        top_p: number("top_p", defaults.top_p)?,
        min_p: number("min_p", defaults.min_p)?,
        repetition_penalty: number("repetition_penalty", defaults.repetition_penalty)?,
        presence_penalty: number("presence_penalty", defaults.presence_penalty)?,
        frequency_penalty: number("frequency_penalty", defaults.frequency_penalty)?,
        top_k: top_k(fields)?.unwrap_or(defaults.top_k),
        logit_bias: logit_bias(fields, max_logit_bias)?,
        seed: seed(fields)?.unwrap_or(defaults.seed),
    };
    sampling.check()?;
    match temperature.is_some_and(|temperature| temperature > MAX_TEMPERATURE) {
        true => Err(fields.invalid("temperature", "invalid_value", "at most 2")),
        false => Ok(sampling),
    }
}

fn top_k(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    match fields.optional::<i64>("top_k", "a whole number")? {
        None => Ok(None),
        Some(-1) => Ok(Some(0)),
        Some(top_k) => usize::try_from(top_k)
            .map(Some)
            .map_err(|_| fields.invalid("top_k", "invalid_value", "at least 0, or -1 for all")),
    }
}

/// Logit bias: an object from token ids, as strings, to numbers.
fn logit_bias(fields: &mut Fields, max: usize) -> Result<BTreeMap<u32, f32>, ApiError> {
    let expected = "an object of token ids and numbers";
    let biases: Map<String, Value> = fields.optional("logit_bias", expected)?.unwrap_or_default();
    if biases.len() > max {
        let expected = format!("an object with at most {max} entries");
        return Err(fields.invalid("logit_bias", "invalid_value", &expected));
    }
    let read = |(token, bias): (String, Value)| Some((token.parse().ok()?, bias.as_f64()? as f32));
    let biases: Option<BTreeMap<u32, f32>> = biases.into_iter().map(read).collect();
    biases.ok_or_else(|| fields.invalid("logit_bias", "invalid_type", expected))
}

/// Seed: any integer.
fn seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    let number: Option<Value> = fields.optional("seed", "a whole number")?;
    let Some(number) = number else { return Ok(None) };
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned));
    whole.map(Some).ok_or_else(|| fields.invalid("seed", "invalid_type", "a whole number"))
}

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use litemoe_core::Sampling;
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Maximum temperature of OpenAI's API.
const MAX_TEMPERATURE: f32 = 2.0;

/// Reads the sampling parameters: OpenAI's, and `top_k`, `min_p` and `repetition_penalty`.
pub(crate) fn take(fields: &mut Fields, max_logit_bias: usize) -> Result<Sampling, ApiError> {
    let mut number =
        |name, default| fields.optional::<f32>(name, "a number").map(|n| n.unwrap_or(default));
    let sampling = Sampling {
        temperature: number("temperature", 1.0)?,
        top_p: number("top_p", 1.0)?,
        min_p: number("min_p", 0.0)?,
        repetition_penalty: number("repetition_penalty", 1.0)?,
        presence_penalty: number("presence_penalty", 0.0)?,
        frequency_penalty: number("frequency_penalty", 0.0)?,
        top_k: top_k(fields)?,
        logit_bias: logit_bias(fields, max_logit_bias)?,
        seed: seed(fields)?,
    };
    sampling.check()?;
    match sampling.temperature > MAX_TEMPERATURE {
        true => Err(fields.invalid("temperature", "invalid_value", "at most 2")),
        false => Ok(sampling),
    }
}

fn top_k(fields: &mut Fields) -> Result<usize, ApiError> {
    match fields.optional::<i64>("top_k", "a whole number")?.unwrap_or(0) {
        -1 => Ok(0),
        top_k => usize::try_from(top_k)
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

/// Seed: any integer; random if missing.
fn seed(fields: &mut Fields) -> Result<u64, ApiError> {
    let number: Option<Value> = fields.optional("seed", "a whole number")?;
    let Some(number) = number else { return Ok(RandomState::new().build_hasher().finish()) };
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned));
    whole.ok_or_else(|| fields.invalid("seed", "invalid_type", "a whole number"))
}

use std::hash::{BuildHasher, Hasher, RandomState};

use litemoe_core::Sampling;
use litemoe_text::Message;
use serde::Deserialize;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::{messages, neutral};

/// A request for a chat completion.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) max_new: Option<usize>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

impl ChatRequest {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let request = Self {
            model: fields.required("model", "a string")?,
            messages: messages::take(&mut fields)?,
            max_new: max_new(&mut fields)?,
            sampling: sampling(&mut fields)?,
            stop: stop(&mut fields)?,
            stream: fields.optional("stream", "a boolean")?.unwrap_or(false),
            include_usage: include_usage(&mut fields)?,
        };
        neutral::take(&mut fields)?;
        fields.finish()?;
        match request.include_usage && !request.stream {
            true => {
                Err(ApiError::bad_request("invalid_value", "`stream_options` is only for streams")
                    .of("stream_options"))
            }
            false => Ok(request),
        }
    }
}

/// `max_tokens` is the older name of `max_completion_tokens`.
fn max_new(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let mut take = |name| match fields.optional(name, "a whole number")? {
        Some(0) => Err(fields.invalid(name, "invalid_value", "at least 1")),
        limit => Ok(limit),
    };
    match (take("max_completion_tokens")?, take("max_tokens")?) {
        (Some(new), Some(old)) if new != old => {
            let expected = "the same as `max_completion_tokens`";
            Err(fields.invalid("max_tokens", "invalid_value", expected))
        }
        (new, old) => Ok(new.or(old)),
    }
}

fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let mut number = |name, max| match fields.optional::<f32>(name, "a number")?.unwrap_or(1.0) {
        number if (0.0..=max).contains(&number) => Ok(number),
        _ => Err(fields.invalid(name, "invalid_value", &format!("between 0 and {max}"))),
    };
    let (temperature, top_p) = (number("temperature", 2.0)?, number("top_p", 1.0)?);
    let top_k = match fields.optional::<i64>("top_k", "a whole number")?.unwrap_or(0) {
        -1 => 0,
        top_k => usize::try_from(top_k)
            .map_err(|_| fields.invalid("top_k", "invalid_value", "at least 0, or -1 for all"))?,
    };
    Ok(Sampling { temperature, top_p, top_k, seed: seed(fields)? })
}

/// Any whole number; without one, every request draws differently.
fn seed(fields: &mut Fields) -> Result<u64, ApiError> {
    let number: Option<Value> = fields.optional("seed", "a whole number")?;
    let Some(number) = number else { return Ok(RandomState::new().build_hasher().finish()) };
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned));
    whole.ok_or_else(|| fields.invalid("seed", "invalid_type", "a whole number"))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stop = match fields.optional("stop", "a string or a list of strings")? {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Several(stop)) => stop,
    };
    match stop.iter().any(String::is_empty) {
        true => {
            Err(fields.invalid("stop", "invalid_value", "a string, or strings, that are not empty"))
        }
        false => Ok(stop),
    }
}

fn include_usage(fields: &mut Fields) -> Result<bool, ApiError> {
    let options: Option<Value> = fields.optional("stream_options", "an object")?;
    let Some(options) = options else { return Ok(false) };
    let mut options = Fields::of(options, "stream_options")?;
    let include = options.optional("include_usage", "a boolean")?.unwrap_or(false);
    options.neutral("include_obfuscation", |value| *value == false)?;
    options.finish()?;
    Ok(include)
}

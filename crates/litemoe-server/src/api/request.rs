use litemoe_core::Sampling;
use litemoe_text::Prompt;
use serde::Deserialize;
use serde_json::Value;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::{neutral, prompt, sampling};

/// Chat completion request.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) prompt: Prompt,
    pub(crate) n: usize,
    pub(crate) n_top: Option<usize>,
    pub(crate) max_new: Option<usize>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

impl ChatRequest {
    /// Parses a body; parameters of sampling that it does not have are those of `defaults`.
    pub(crate) fn parse(
        body: &[u8],
        limits: &RequestLimits,
        defaults: &Sampling,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body, limits.max_values)?;
        let request = Self {
            model: fields.required("model", "a string")?,
            prompt: prompt::take(&mut fields, limits)?,
            n: n(&mut fields, limits.max_n)?,
            n_top: n_top(&mut fields)?,
            max_new: max_new(&mut fields)?,
            sampling: sampling::take(&mut fields, limits.max_logit_bias, defaults)?,
            stop: stop(&mut fields, limits)?,
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

/// Number of texts.
fn n(fields: &mut Fields, max: usize) -> Result<usize, ApiError> {
    let n = fields.optional("n", "a whole number")?.unwrap_or(1);
    match (1..=max).contains(&n) {
        true => Ok(n),
        false => Err(fields.invalid("n", "invalid_value", &format!("between 1 and {max}"))),
    }
}

/// Number of alternatives (`top_logprobs`) per token; `None` without `logprobs`.
fn n_top(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.optional("logprobs", "a boolean")?.unwrap_or(false);
    match (wanted, fields.optional("top_logprobs", "a whole number")?.unwrap_or(0)) {
        (false, 0) => Ok(None),
        (true, n @ 0..=20) => Ok(Some(n)),
        (true, _) => Err(fields.invalid("top_logprobs", "invalid_value", "between 0 and 20")),
        (false, _) => {
            let expected = "to be had without `logprobs`";
            Err(fields.invalid("top_logprobs", "invalid_value", expected))
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

fn stop(fields: &mut Fields, limits: &RequestLimits) -> Result<Vec<String>, ApiError> {
    let stop = match fields.optional("stop", "a string or a list of strings")? {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Several(stop)) => stop,
    };
    let RequestLimits { max_stop, max_stop_bytes, .. } = limits;
    let expected = if stop.len() > *max_stop {
        format!("a string, or at most {max_stop} strings")
    } else if stop.iter().any(|stop| !(1..=*max_stop_bytes).contains(&stop.len())) {
        format!("a string, or strings, of 1 to {max_stop_bytes} bytes")
    } else {
        return Ok(stop);
    };
    Err(fields.invalid("stop", "invalid_value", &expected))
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

use litemoe_core::Sampling;
use serde::Deserialize;
use serde_json::Value;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::{ending, sampling};
use crate::engine::Ending;

/// Parameters that chat completions and completions have in common.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) n: usize,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) ending: Ending,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) is_background: bool,
}

/// Reads them; parameters of sampling that the request does not have are those of `defaults`.
pub(crate) fn take(
    fields: &mut Fields,
    limits: &RequestLimits,
    defaults: &Sampling,
) -> Result<Parameters, ApiError> {
    let common = Parameters {
        n: n(fields, limits.max_n)?,
        sampling: sampling::take(fields, limits.max_logit_bias, defaults)?,
        stop: stop(fields, limits)?,
        ending: ending::take(fields, limits.max_stop)?,
        stream: fields.optional("stream", "a boolean")?.unwrap_or(false),
        include_usage: include_usage(fields)?,
        is_background: is_background(fields)?,
    };
    fields.neutral("best_of", |best| *best == common.n)?;
    if common.ending.min_new > 0 && !common.stop.is_empty() {
        return Err(fields.conflict(common.ending.param(), "stop"));
    }
    match common.include_usage && !common.stream {
        true => Err(ApiError::bad_request("invalid_value", "`stream_options` is only for streams")
            .of("stream_options")),
        false => Ok(common),
    }
}

/// Service tier: `flex` is processed when nothing else is, as OpenAI's; the others are the same.
fn is_background(fields: &mut Fields) -> Result<bool, ApiError> {
    let tier: Option<String> = fields.optional("service_tier", "a string")?;
    match tier.as_deref() {
        Some("flex") => Ok(true),
        None | Some("auto" | "default" | "priority" | "scale") => Ok(false),
        Some(_) => {
            let expected = "`auto`, `default`, `flex`, `priority` or `scale`";
            Err(fields.invalid("service_tier", "invalid_value", expected))
        }
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

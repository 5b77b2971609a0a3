use litemoe_core::Sampling;
use litemoe_text::Prompt;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::parameters::{self, Parameters};
use crate::api::shape::{self, Shape};
use crate::api::tools::{self, Tools};
use crate::api::{neutral, prompt};

/// Chat completion request.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) prompt: Prompt,
    pub(crate) tools: Tools,
    /// What answers must be.
    pub(crate) shape: Option<Shape>,
    pub(crate) n_top: Option<usize>,
    pub(crate) max_new: Option<usize>,
    pub(crate) common: Parameters,
}

impl ChatRequest {
    /// Parses a body; parameters of sampling that it does not have are those of `defaults`.
    pub(crate) fn parse(
        body: &[u8],
        limits: &RequestLimits,
        defaults: &Sampling,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body, limits.max_values)?;
        let model = fields.required("model", "a string")?;
        let tools = tools::take(&mut fields)?;
        let request = Self {
            model,
            prompt: prompt::take(&mut fields, limits, tools.all.clone())?,
            shape: shape(&mut fields, &tools)?,
            tools,
            n_top: n_top(&mut fields)?,
            max_new: max_new(&mut fields)?,
            common: parameters::take(&mut fields, limits, defaults)?,
        };
        request.common.ending.check(request.max_new, &fields)?;
        if let Some(shape) = request.shape.as_ref().filter(|_| request.common.ending.min_new > 0) {
            return Err(fields.conflict(request.common.ending.param(), &shape.param));
        }
        // The template prints them.
        fields.neutral("add_special_tokens", |add| *add == false)?;
        neutral::take(&mut fields)?;
        fields.finish()?;
        Ok(request)
    }
}

/// What answers must be, by their format or the tools.
fn shape(fields: &mut Fields, tools: &Tools) -> Result<Option<Shape>, ApiError> {
    match shape::take(fields)? {
        Some(shape) if !tools.all.is_empty() => {
            let message = format!("`{}` cannot be combined with `tools`", shape.param);
            Err(ApiError::bad_request("unsupported_parameter", message).of(shape.param))
        }
        Some(shape) => Ok(Some(shape)),
        None => Ok(tools.shape()),
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

use litemoe_core::Sampling;
use serde::Deserialize;
use serde_json::Value;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::neutral;
use crate::api::parameters::{self, Parameters};

/// Maximum number of new tokens of a request that does not have one, as in OpenAI's API, if there is room for them.
pub(crate) const MAX_NEW: usize = 16;

/// Completion request: plain texts or tokens to continue.
#[derive(Debug)]
pub(crate) struct CompletionRequest {
    pub(crate) model: String,
    pub(crate) prompts: Vec<PlainPrompt>,
    pub(crate) n_top: Option<usize>,
    /// 0 only with `echo`.
    pub(crate) max_new: Option<usize>,
    /// Whether the prompt is part of the text.
    pub(crate) echo: bool,
    pub(crate) common: Parameters,
}

/// A prompt without a chat template.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum PlainPrompt {
    Text(String),
    Tokens(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    One(String),
    Tokens(Vec<u32>),
    Several(Vec<PlainPrompt>),
}

impl CompletionRequest {
    /// Parses a body; parameters of sampling that it does not have are those of `defaults`.
    pub(crate) fn parse(
        body: &[u8],
        limits: &RequestLimits,
        defaults: &Sampling,
    ) -> Result<Self, ApiError> {
        // Every token of a prompt is a value.
        let mut fields = Fields::parse(body, limits.max_values.saturating_mul(4))?;
        let echo = fields.optional("echo", "a boolean")?.unwrap_or(false);
        let request = Self {
            model: fields.required("model", "a string")?,
            prompts: prompts(&mut fields, limits.max_prompts)?,
            n_top: n_top(&mut fields)?,
            max_new: max_new(&mut fields, echo)?,
            echo,
            common: parameters::take(&mut fields, limits, defaults)?,
        };
        let (n, max) = (request.common.n, limits.max_n.max(limits.max_prompts));
        if request.prompts.len().saturating_mul(n) > max {
            return Err(fields.invalid("n", "invalid_value", &format!("at most {max} / prompts")));
        }
        request.common.ending.check(Some(request.max_new.unwrap_or(MAX_NEW)), &fields)?;
        fields.neutral("add_special_tokens", |add| *add == true)?;
        fields.neutral("suffix", |suffix| suffix == "")?;
        neutral::take(&mut fields)?;
        fields.finish()?;
        Ok(request)
    }
}

impl PlainPrompt {
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
        }
    }
}

fn prompts(fields: &mut Fields, max: usize) -> Result<Vec<PlainPrompt>, ApiError> {
    let expected = "a string, a list of token ids, or a list of those";
    let prompts: Value = fields.required("prompt", expected)?;
    let parsed = serde_json::from_value(prompts);
    let prompts = match parsed.map_err(|_| fields.invalid("prompt", "invalid_type", expected))? {
        Prompts::One(text) => vec![PlainPrompt::Text(text)],
        // An empty list is no prompt at all.
        Prompts::Tokens(tokens) if tokens.is_empty() => Vec::new(),
        Prompts::Tokens(tokens) => vec![PlainPrompt::Tokens(tokens)],
        Prompts::Several(prompts) => prompts,
    };
    match (1..=max).contains(&prompts.len()) {
        true => Ok(prompts),
        false => {
            let expected = format!("1 to {max} prompts");
            Err(fields.invalid("prompt", "invalid_value", &expected))
        }
    }
}

/// Number of alternatives per token (`logprobs`).
fn n_top(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    match fields.optional("logprobs", "a whole number")? {
        Some(21..) => Err(fields.invalid("logprobs", "invalid_value", "between 0 and 20")),
        n_top => Ok(n_top),
    }
}

fn max_new(fields: &mut Fields, echo: bool) -> Result<Option<usize>, ApiError> {
    match fields.optional("max_tokens", "a whole number")? {
        Some(0) if !echo => {
            Err(fields.invalid("max_tokens", "invalid_value", "at least 1, or 0 with `echo`"))
        }
        max_new => Ok(max_new),
    }
}

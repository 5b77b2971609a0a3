use litemoe_core::Sampling;
use litemoe_text::Prompt;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::prompt;

/// Request for the tokens of a text or a conversation, in the form of llama-server or vLLM.
#[derive(Debug)]
pub(crate) struct TokenizeRequest {
    /// All models have the foundation's tokenizer, so it may be missing.
    pub(crate) model: Option<String>,
    pub(crate) source: Source,
    pub(crate) form: Form,
}

/// What is tokenized.
#[derive(Debug)]
pub(crate) enum Source {
    Text {
        text: String,
        /// Whether it has the special tokens that the tokenizer adds before texts.
        is_begun: bool,
    },
    Chat(Prompt),
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// llama-server's: tokens alone.
    Plain,
    /// llama-server's, with the text of each token.
    Pieces,
    /// vLLM's: tokens, their number, and the context's.
    Vllm,
}

impl TokenizeRequest {
    /// Parses a body: `content` is llama-server's form, `prompt` or `messages` vLLM's.
    pub(crate) fn parse(
        body: &[u8],
        limits: &RequestLimits,
        _: &Sampling,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body, limits.max_values)?;
        let model = fields.optional("model", "a string")?;
        let content = fields.optional("content", "a string")?;
        let (source, form) = match content {
            Some(text) => of_llama(&mut fields, text)?,
            None => (of_vllm(&mut fields, limits)?, Form::Vllm),
        };
        fields.finish()?;
        Ok(Self { model, source, form })
    }
}

fn of_llama(fields: &mut Fields, text: String) -> Result<(Source, Form), ApiError> {
    let is_begun = fields.optional("add_special", "a boolean")?.unwrap_or(false);
    let pieces = fields.optional("with_pieces", "a boolean")?.unwrap_or(false);
    fields.neutral("parse_special", |parse| *parse == true)?;
    let form = if pieces { Form::Pieces } else { Form::Plain };
    Ok((Source::Text { text, is_begun }, form))
}

fn of_vllm(fields: &mut Fields, limits: &RequestLimits) -> Result<Source, ApiError> {
    fields.neutral("return_token_strs", |wanted| *wanted == false)?;
    if let Some(text) = fields.optional("prompt", "a string")? {
        let is_begun = fields.optional("add_special_tokens", "a boolean")?.unwrap_or(true);
        return Ok(Source::Text { text, is_begun });
    }
    if !fields.has("messages") {
        let message = "one of `content`, `prompt` and `messages` is missing";
        return Err(ApiError::bad_request("missing_required_parameter", message).of("content"));
    }
    let tools = fields.optional("tools", "a list of tools")?.unwrap_or_default();
    let prompt = prompt::take(fields, limits, tools)?;
    fields.neutral("add_generation_prompt", |add| *add == true)?;
    fields.neutral("continue_final_message", |go_on| *go_on == false)?;
    // The template prints them.
    fields.neutral("add_special_tokens", |add| *add == false)?;
    Ok(Source::Chat(prompt))
}

impl TokenizeRequest {
    /// Name of the parameter that is tokenized.
    pub(crate) fn param(&self) -> &'static str {
        match (&self.source, self.form) {
            (Source::Chat(_), _) => "messages",
            (Source::Text { .. }, Form::Vllm) => "prompt",
            (Source::Text { .. }, Form::Plain | Form::Pieces) => "content",
        }
    }

    pub(crate) fn n_bytes(&self) -> usize {
        match &self.source {
            Source::Text { text, .. } => text.len(),
            Source::Chat(prompt) => prompt.n_bytes(),
        }
    }
}

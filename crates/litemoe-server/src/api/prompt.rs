use litemoe_text::Prompt;
use serde_json::{Map, Value};

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::messages;

/// Reads the conversation and what else the chat template renders.
pub(crate) fn take(
    fields: &mut Fields,
    limits: &RequestLimits,
    tools: Vec<Value>,
) -> Result<Prompt, ApiError> {
    let messages = messages::take(fields, limits)?;
    let documents = fields.optional("documents", "a list of documents")?.unwrap_or_default();
    let variables: Option<Map<String, Value>> =
        fields.optional("chat_template_kwargs", "an object")?;
    let prompt = Prompt::new(messages)?.with_tools(tools)?.with_documents(documents)?;
    Ok(prompt.with_variables(variables.unwrap_or_default())?)
}

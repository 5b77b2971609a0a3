use litemoe_text::Prompt;
use serde_json::{Map, Value};

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::messages;

/// Reads the conversation and what else the chat template renders.
pub(crate) fn take(fields: &mut Fields, limits: &RequestLimits) -> Result<Prompt, ApiError> {
    let messages = messages::take(fields, limits)?;
    let tools = tools(fields)?;
    let documents = fields.optional("documents", "a list of documents")?.unwrap_or_default();
    let variables: Option<Map<String, Value>> =
        fields.optional("chat_template_kwargs", "an object")?;
    let prompt = Prompt::new(messages)?.with_tools(tools)?.with_documents(documents)?;
    Ok(prompt.with_variables(variables.unwrap_or_default())?)
}

/// Tools to render: none if `tool_choice` is `none`. Answers are text, in which nothing enforces or excludes a call, so
/// whatever demands that is refused.
fn tools(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    let tools: Vec<Value> = fields.optional("tools", "a list of tools")?.unwrap_or_default();
    let choice: Value = fields.optional("tool_choice", "a choice")?.unwrap_or("auto".into());
    let parallel: Value = fields.optional("parallel_tool_calls", "a boolean")?.unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let strict = &tool["function"]["strict"];
        if *strict == true {
            return Err(fields.unsupported(&format!("tools[{index}].function.strict"), strict));
        }
    }
    match choice.as_str() {
        Some("none") => Ok(Vec::new()),
        Some("auto") if parallel == false && !tools.is_empty() => {
            Err(fields.unsupported("parallel_tool_calls", &parallel))
        }
        Some("auto") => Ok(tools),
        _ => Err(fields.unsupported("tool_choice", &choice)),
    }
}

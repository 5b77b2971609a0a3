use litemoe_text::Message;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Reads the request's conversation.
pub(crate) fn take(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let messages: Vec<Value> = fields.required("messages", "a list of messages")?;
    if messages.is_empty() {
        return Err(fields.invalid(
            "messages",
            "invalid_value",
            "a list with at least one message",
        ));
    }
    let named = messages.into_iter().enumerate();
    named.map(|(index, message)| read(message, &format!("messages[{index}]"))).collect()
}

fn read(message: Value, path: &str) -> Result<Message, ApiError> {
    let mut fields = Fields::of(message, path)?;
    let role = fields.required("role", "a string")?;
    let content = match fields.required("content", "a string or a list of parts")? {
        Value::String(content) => content,
        Value::Array(parts) => join(parts, &fields.path("content"))?,
        _ => return Err(fields.invalid("content", "invalid_type", "a string or a list of parts")),
    };
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.neutral("tool_calls", is_empty)?;
    for name in ["name", "refusal", "audio", "function_call", "tool_call_id"] {
        fields.neutral(name, |_| false)?;
    }
    fields.finish()?;
    Ok(Message { role, content })
}

/// Joins the parts of a message with newlines.
fn join(parts: Vec<Value>, path: &str) -> Result<String, ApiError> {
    let named = parts.into_iter().enumerate();
    let texts: Result<Vec<_>, _> =
        named.map(|(index, part)| text_of(part, &format!("{path}[{index}]"))).collect();
    Ok(texts?.join("\n"))
}

fn text_of(part: Value, path: &str) -> Result<String, ApiError> {
    let mut fields = Fields::of(part, path)?;
    let kind: String = fields.required("type", "a string")?;
    if kind != "text" {
        return Err(fields.invalid(
            "type",
            "unsupported_parameter",
            "`text`, the only kind that is supported",
        ));
    }
    let text = fields.required("text", "a string")?;
    fields.finish()?;
    Ok(text)
}

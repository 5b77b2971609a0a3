use serde_json::{Map, Value};

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Reads the request's conversation: messages of `role` and `content`, with `tool_calls` of the assistant, and
/// `tool_call_id` and `name` of tools.
pub(crate) fn take(fields: &mut Fields, limits: &RequestLimits) -> Result<Vec<Value>, ApiError> {
    let messages: Vec<Value> = fields.required("messages", "a list of messages")?;
    let max = limits.max_messages;
    let expected = match messages.len() {
        0 => Some("a list with at least one message".to_owned()),
        n if n > max => Some(format!("a list of at most {max} messages")),
        _ => None,
    };
    if let Some(expected) = expected {
        return Err(fields.invalid("messages", "invalid_value", &expected));
    }
    let mut parts = Parts { left: limits.max_parts, max: limits.max_parts };
    let named = messages.into_iter().enumerate();
    named.map(|(index, message)| parts.read(message, &format!("messages[{index}]"))).collect()
}

/// Limit of the parts of all messages.
struct Parts {
    left: usize,
    max: usize,
}

impl Parts {
    fn read(&mut self, message: Value, path: &str) -> Result<Value, ApiError> {
        let mut fields = Fields::of(message, path)?;
        let role: String = fields.required("role", "a string")?;
        let mut read = Map::from_iter([("role".to_owned(), role.as_str().into())]);
        let calls = match role.as_str() {
            "assistant" => fields.optional("tool_calls", "a list of tool calls")?,
            _ => None,
        };
        let calls: Vec<Value> = calls.unwrap_or_default();
        let expected = "a string or a list of parts";
        let content = match calls.is_empty() {
            true => fields.required("content", expected)?,
            false => fields.optional("content", expected)?.unwrap_or(Value::Null),
        };
        let content = match content {
            Value::Array(parts) => self.join(parts, &fields)?.into(),
            text @ (Value::String(_) | Value::Null) => text,
            _ => return Err(fields.invalid("content", "invalid_type", expected)),
        };
        read.insert("content".to_owned(), content);
        if !calls.is_empty() {
            read.insert("tool_calls".to_owned(), calls.into());
        }
        for name in ["tool_call_id", "name"].into_iter().filter(|_| role == "tool") {
            let value: Option<String> = fields.optional(name, "a string")?;
            read.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        fields.neutral("tool_calls", is_empty)?;
        for name in ["name", "refusal", "audio", "function_call", "tool_call_id"] {
            fields.neutral(name, |_| false)?;
        }
        fields.finish()?;
        Ok(read.into())
    }

    /// Joins the parts of a message with newlines.
    fn join(&mut self, parts: Vec<Value>, fields: &Fields) -> Result<String, ApiError> {
        let Some(left) = self.left.checked_sub(parts.len()) else {
            let expected = format!("a list of parts, at most {} in all messages", self.max);
            return Err(fields.invalid("content", "invalid_value", &expected));
        };
        self.left = left;
        let (path, named) = (fields.path("content"), parts.into_iter().enumerate());
        let texts: Result<Vec<_>, _> =
            named.map(|(index, part)| text_of(part, &format!("{path}[{index}]"))).collect();
        Ok(texts?.join("\n"))
    }
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

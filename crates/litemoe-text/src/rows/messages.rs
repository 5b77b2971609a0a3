//! Lists of messages: OpenAI's and ShareGPT's.

use serde_json::{Map, Value};

use super::RowError;
use super::object::{Object, kind, wrong_type};
use super::value::parsed;
use crate::Conversation;
use crate::conversation::{Context, role};

/// Roles of messages.
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];

/// ShareGPT's names for roles. A `function_call` is the assistant's.
const SHAREGPT_ROLES: &[&str] =
    &["system", "human", "user", "gpt", "assistant", "function_call", "observation", "tool"];

/// Messages, and whether the loss covers each.
pub(super) struct Turns {
    messages: Vec<Map<String, Value>>,
    in_loss: Vec<bool>,
}

impl Turns {
    /// Reads the messages of `key`: with `role` and `content`, or with `from` and `value`. The loss covers the
    /// assistant's messages whose `weight` is not 0.
    pub(super) fn read(key: &'static str, items: Vec<Value>) -> Result<Self, RowError> {
        Self::read_some(key, items, true)
    }

    /// As [`Self::read`], but the loss covers nothing.
    pub(super) fn read_prompt(key: &'static str, items: Vec<Value>) -> Result<Self, RowError> {
        Self::read_some(key, items, false)
    }

    fn read_some(key: &'static str, items: Vec<Value>, is_learned: bool) -> Result<Self, RowError> {
        let (mut messages, mut in_loss) = (Vec::new(), Vec::new());
        for (index, item) in items.into_iter().enumerate() {
            let at = format!("{key}[{index}]");
            let Value::Object(message) = item else {
                return Err(wrong_type(at, "a message, an object", &item));
            };
            let is_sharegpt = message.contains_key("from") && !message.contains_key("role");
            let mut message = if is_sharegpt { from_sharegpt(message, &at)? } else { message };
            let covered = normalise(&mut message, &at, Some(ROLES), is_learned)?;
            messages.push(message);
            in_loss.push(covered);
        }
        Ok(Self { messages, in_loss })
    }

    pub(super) fn extend(&mut self, next: Self) {
        self.messages.extend(next.messages);
        self.in_loss.extend(next.in_loss);
    }

    /// Puts the row's `system` before the messages, which must not begin with a system message.
    pub(super) fn put_system_first(&mut self, text: &str) -> Result<(), RowError> {
        if self.messages.first().is_some_and(|first| role(first) == "system") {
            return Err(RowError::Unsupported {
                key: "system".to_owned(),
                what: "a second system message".to_owned(),
                advice: "leave one of them",
            });
        }
        self.messages.insert(0, message("system", text.into()));
        self.in_loss.insert(0, false);
        Ok(())
    }

    /// The conversation, in which the loss must cover a message that others precede. `key` names it in errors.
    pub(super) fn into_conversation(
        self,
        key: &'static str,
        context: Context,
    ) -> Result<Conversation, RowError> {
        match self.in_loss.iter().position(|&covered| covered) {
            None => Err(RowError::NoAssistant { key }),
            Some(0) => Err(RowError::NoPrompt { key }),
            Some(_) => Ok(Conversation::new(self.messages, self.in_loss, context)),
        }
    }
}

/// Tools and documents of a row: lists of objects, or their JSON as a string.
pub(super) fn context(object: &Object<'_>) -> Result<Context, RowError> {
    let list = |key, expected| match object.nested(key)? {
        Some(Value::Array(items)) => Ok(Some(items).filter(|items| !items.is_empty())),
        None => Ok(None),
        Some(other) => Err(wrong_type(key, expected, &other)),
    };
    let tools = list("tools", "a list of tools")?.map(checked_tools).transpose()?;
    let documents = list("documents", "a list of documents")?;
    Ok(Context { tools, documents: documents.map(checked_documents).transpose()? })
}

/// Tools, all of which must be objects.
pub(crate) fn checked_tools(tools: Vec<Value>) -> Result<Vec<Value>, RowError> {
    objects("tools", "a tool, an object", tools)
}

/// Documents, all of which must be objects.
pub(crate) fn checked_documents(documents: Vec<Value>) -> Result<Vec<Value>, RowError> {
    objects("documents", "a document, an object", documents)
}

fn objects(key: &str, expected: &'static str, items: Vec<Value>) -> Result<Vec<Value>, RowError> {
    match items.iter().position(|item| !item.is_object()) {
        Some(index) => Err(wrong_type(format!("{key}[{index}]"), expected, &items[index])),
        None => Ok(items),
    }
}

/// Reads the messages of a prompt, of any role that the template may know.
pub(crate) fn prompt_messages(
    key: &str,
    items: Vec<Value>,
) -> Result<Vec<Map<String, Value>>, RowError> {
    let read = |(index, item)| {
        let at = format!("{key}[{index}]");
        let Value::Object(mut message) = item else {
            return Err(wrong_type(at, "a message, an object", &item));
        };
        normalise(&mut message, &at, None, false)?;
        Ok(message)
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Checks a message, joins the parts of its content with newlines, as the server does, parses the arguments of its tool
/// calls and takes its `weight`. Its role must be one of `roles`, if they are given. Returns whether the loss covers it,
/// which it does not unless `is_learned`.
fn normalise(
    message: &mut Map<String, Value>,
    at: &str,
    roles: Option<&'static [&'static str]>,
    is_learned: bool,
) -> Result<bool, RowError> {
    let role = match (message.get("role"), roles) {
        (Some(Value::String(role)), Some(roles)) if !roles.contains(&role.as_str()) => {
            return Err(unknown_role(at, "role", role, roles));
        }
        (Some(Value::String(role)), _) => role.clone(),
        (other, _) => {
            return Err(wrong_type(
                format!("{at}.role"),
                "a string",
                other.unwrap_or(&Value::Null),
            ));
        }
    };
    let is_assistant = role == "assistant";
    if message.get("function_call").is_some_and(|call| !call.is_null()) {
        return Err(RowError::Unsupported {
            key: format!("{at}.function_call"),
            what: "OpenAI's old function calls".to_owned(),
            advice: "write `tool_calls`",
        });
    }
    if let Some(Value::Array(parts)) = message.get_mut("content") {
        let text = joined(std::mem::take(parts), &format!("{at}.content"))?;
        message.insert("content".to_owned(), text.into());
    }
    let calls = parse_tool_calls(message, at)?;
    let covered = take_weight(message, at)? && is_assistant && is_learned;
    match message.get("content") {
        Some(Value::String(text)) if text.trim().is_empty() && covered && !calls => {
            Err(RowError::EmptyCompletion { key: format!("{at}.content") })
        }
        Some(Value::String(_)) => Ok(covered),
        None | Some(Value::Null) if calls && is_assistant => Ok(covered),
        None | Some(Value::Null) if covered => {
            Err(RowError::EmptyCompletion { key: format!("{at}.content") })
        }
        other => {
            let found = other.unwrap_or(&Value::Null);
            Err(wrong_type(format!("{at}.content"), "a string or text parts", found))
        }
    }
}

/// OpenAI's `weight`, 0 or 1, which the template does not see; 1 if it is absent.
fn take_weight(message: &mut Map<String, Value>, at: &str) -> Result<bool, RowError> {
    match message.shift_remove("weight") {
        None | Some(Value::Null) => Ok(true),
        Some(weight) => match weight.as_f64() {
            Some(0.0) => Ok(false),
            Some(1.0) => Ok(true),
            _ => Err(RowError::Unsupported {
                key: format!("{at}.weight"),
                what: format!("the weight {weight}"),
                advice: "a weight is 0 or 1",
            }),
        },
    }
}

/// Replaces tool calls' `arguments` that are JSON in a string, as OpenAI writes them, by the object, which templates
/// expect. Returns whether there are calls.
fn parse_tool_calls(message: &mut Map<String, Value>, at: &str) -> Result<bool, RowError> {
    let key = format!("{at}.tool_calls");
    let calls = match message.get_mut("tool_calls") {
        None | Some(Value::Null) => return Ok(false),
        Some(Value::Array(calls)) => calls,
        Some(other) => return Err(wrong_type(key, "a list of tool calls", other)),
    };
    for (index, call) in calls.iter_mut().enumerate() {
        let key = format!("{key}[{index}]");
        let Value::Object(call) = call else {
            return Err(wrong_type(key, "a tool call, an object", call));
        };
        let function = match call.get_mut("function") {
            Some(Value::Object(function)) => function,
            Some(other) => return Err(wrong_type(format!("{key}.function"), "an object", other)),
            None => call,
        };
        match function.get("name") {
            Some(Value::String(_)) => {}
            other => {
                let found = other.unwrap_or(&Value::Null);
                return Err(wrong_type(format!("{key}.function.name"), "a string", found));
            }
        }
        if let Some(Value::String(json)) = function.get("arguments") {
            let arguments: Map<String, Value> =
                parsed(json).map_err(|reason| RowError::Malformed {
                    key: format!("{key}.function.arguments"),
                    reason: format!("not the JSON of an object: {reason}"),
                })?;
            function.insert("arguments".to_owned(), arguments.into());
        }
    }
    Ok(!calls.is_empty())
}

fn joined(parts: Vec<Value>, at: &str) -> Result<String, RowError> {
    let text = |(index, part): (usize, Value)| match &part["text"] {
        Value::String(text) if part["type"] == "text" => Ok(text.clone()),
        _ => Err(RowError::Unsupported {
            key: format!("{at}[{index}]"),
            what: match part["type"].as_str() {
                Some(kind) => format!("a part of the type `{kind}`"),
                None => format!("{} instead of a part", kind(&part)),
            },
            advice: "a part has the type `text`",
        }),
    };
    let texts = parts.into_iter().enumerate().map(text);
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Rewrites `from` and `value` as `role` and `content`. The value of a `function_call` is a call's JSON, or a list of
/// them.
fn from_sharegpt(mut given: Map<String, Value>, at: &str) -> Result<Map<String, Value>, RowError> {
    let from = match given.shift_remove("from") {
        Some(Value::String(from)) => from,
        other => {
            return Err(wrong_type(format!("{at}.from"), "a string", &other.unwrap_or_default()));
        }
    };
    let value = match given.shift_remove("value") {
        Some(Value::String(value)) => value,
        other => {
            return Err(wrong_type(format!("{at}.value"), "a string", &other.unwrap_or_default()));
        }
    };
    let mut written = match from.as_str() {
        "human" | "user" => message("user", value.into()),
        "gpt" | "assistant" => message("assistant", value.into()),
        "system" => message("system", value.into()),
        "observation" | "tool" => message("tool", value.into()),
        "function_call" => {
            let malformed = |reason: String| RowError::Malformed {
                key: format!("{at}.value"),
                reason: format!("not the JSON of a function call: {reason}"),
            };
            let calls = match parsed(&value).map_err(malformed)? {
                Value::Array(calls) => calls,
                call => vec![call],
            };
            let wrapped = calls.into_iter().map(|call| {
                let pairs = [("type", Value::from("function")), ("function", call)];
                pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<Value>()
            });
            let mut written = message("assistant", Value::Null);
            written.insert("tool_calls".to_owned(), wrapped.collect());
            written
        }
        _ => return Err(unknown_role(at, "from", &from, SHAREGPT_ROLES)),
    };
    written.extend(given.shift_remove_entry("weight"));
    Ok(written)
}

fn message(role: &str, content: Value) -> Map<String, Value> {
    let pairs = [("role", role.into()), ("content", content)];
    pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn unknown_role(at: &str, key: &str, role: &str, known: &'static [&'static str]) -> RowError {
    RowError::UnknownRole { key: format!("{at}.{key}"), role: role.to_owned(), known }
}

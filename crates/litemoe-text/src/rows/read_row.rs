//! From an object to a row, by the shape of the file's rows.

use serde_json::{Map, Value};

use super::messages::{self, Turns};
use super::object::{Object, wrong_type};
use super::{RowError, RowShape};
use crate::conversation::Context;
use crate::{Conversation, Row, RowContent};

/// The row of an object, and its shape. `first` is the shape of the rows before it.
pub(super) fn row(
    object: &Object<'_>,
    first: Option<RowShape>,
) -> Result<(Row, RowShape), RowError> {
    let (keys, set_keys) = (object.keys(), object.set_keys());
    let shape = match first {
        Some(shape) => shape.expect(&keys, &set_keys).map(|()| shape),
        None => RowShape::of(&set_keys).or_else(|_| RowShape::of(&keys)),
    }?;
    let (content, shape) = match shape {
        RowShape::PromptCompletion | RowShape::MessageLists => prompt_completion(object)?,
        RowShape::Messages => (conversation(object, "messages")?, shape),
        RowShape::Conversations => (conversation(object, "conversations")?, shape),
        RowShape::Instruction => (instruction(object)?, shape),
        RowShape::Text => (RowContent::Text(completion(object, "text")?), shape),
    };
    if let Some(expected) = first.filter(|&expected| expected != shape) {
        return Err(RowError::OtherShape { expected, found: shape });
    }
    let (label, references) = (label(object)?, references(object)?);
    Ok((Row { content, label, references }, shape))
}

fn prompt_completion(object: &Object<'_>) -> Result<(RowContent, RowShape), RowError> {
    let lists = match object.value("prompt")? {
        Some(Value::Array(prompt)) => Some([prompt, list(object, "completion")?]),
        _ => messages_in_cells(object)?,
    };
    let Some([prompt, completion]) = lists else {
        let (prompt, completion) = (string(object, "prompt")?, completion(object, "completion")?);
        return Ok((RowContent::Pair { prompt, completion }, RowShape::PromptCompletion));
    };
    let mut turns = Turns::read_prompt("prompt", prompt)?;
    turns.extend(Turns::read("completion", completion)?);
    let conversation = turns.into_conversation("completion", messages::context(object)?)?;
    Ok((RowContent::Conversation(conversation), RowShape::MessageLists))
}

/// The lists of messages that a table's `prompt` and `completion` hold as JSON.
fn messages_in_cells(object: &Object<'_>) -> Result<Option<[Vec<Value>; 2]>, RowError> {
    let mixed = |key: &str| RowError::Type {
        key: key.to_owned(),
        expected: "a list of messages, as the other of `prompt` and `completion` is",
        found: "a text",
    };
    match (messages_in_cell(object, "prompt")?, messages_in_cell(object, "completion")?) {
        (Some(prompt), Some(completion)) => Ok(Some([prompt, completion])),
        (Some(_), None) => Err(mixed("completion")),
        (None, Some(_)) => Err(mixed("prompt")),
        (None, None) => Ok(None),
    }
}

fn messages_in_cell(
    object: &Object<'_>,
    key: &'static str,
) -> Result<Option<Vec<Value>>, RowError> {
    let Some(Value::String(cell)) = object.value(key)?.filter(|_| object.is_cell(key)) else {
        return Ok(None);
    };
    let is_python = ["[{'role':", "[{'content':"].iter().any(|start| cell.starts_with(start));
    if is_python {
        return Err(RowError::Malformed {
            key: key.to_owned(),
            reason: "a list of messages as Python prints it; write it as JSON".to_owned(),
        });
    }
    let is_message = |item: &Value| item.get("role").is_some();
    match serde_json::from_str(&cell) {
        Ok(Value::Array(items)) if !items.is_empty() && items.iter().all(is_message) => {
            list(object, key).map(Some)
        }
        _ => Ok(None),
    }
}

fn conversation(object: &Object<'_>, key: &'static str) -> Result<RowContent, RowError> {
    if object.value("functions")?.is_some() {
        return Err(RowError::Unsupported {
            key: "functions".to_owned(),
            what: "OpenAI's old functions".to_owned(),
            advice: "write `tools`",
        });
    }
    let mut turns = Turns::read(key, list(object, key)?)?;
    if let Some(system) = optional_string(object, "system")? {
        turns.put_system_first(&system)?;
    }
    Ok(RowContent::Conversation(turns.into_conversation(key, messages::context(object)?)?))
}

/// Alpaca's prompt: the instruction and, on the next line, the input if there is one.
fn instruction(object: &Object<'_>) -> Result<RowContent, RowError> {
    let mut prompt = string(object, "instruction")?;
    if let Some(input) = optional_string(object, "input")? {
        prompt = format!("{prompt}\n{input}");
    }
    let completion = completion(object, "output")?;
    let history = object.nested("history")?;
    if history.is_some_and(|history| history.as_array().is_none_or(|turns| !turns.is_empty())) {
        return Err(RowError::Unsupported {
            key: "history".to_owned(),
            what: "earlier turns".to_owned(),
            advice: "write the conversation as `messages`",
        });
    }
    let Some(system) = optional_string(object, "system")? else {
        return Ok(RowContent::Pair { prompt, completion });
    };
    let messages = [("system", system), ("user", prompt), ("assistant", completion)];
    let messages = messages.map(|(role, content)| {
        let pairs = [("role", role.to_owned()), ("content", content)];
        pairs
            .map(|(key, text)| (key.to_owned(), Value::String(text)))
            .into_iter()
            .collect::<Map<_, _>>()
    });
    let in_loss = vec![false, false, true];
    Ok(RowContent::Conversation(Conversation::new(messages.into(), in_loss, Context::default())))
}

fn label(object: &Object<'_>) -> Result<Option<String>, RowError> {
    match object.value("label")? {
        None => Ok(None),
        Some(Value::String(label)) => Ok(Some(label)),
        Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
        Some(other) => Err(wrong_type("label", "a string or an integer", &other)),
    }
}

fn references(object: &Object<'_>) -> Result<Vec<String>, RowError> {
    let items = match object.nested("references")? {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("references", "a list of strings", &other)),
    };
    let text = |(index, item)| match item {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(format!("references[{index}]"), "a string", &other)),
    };
    items.into_iter().enumerate().map(text).collect()
}

/// A string that must not be blank.
fn completion(object: &Object<'_>, key: &'static str) -> Result<String, RowError> {
    let text = string(object, key)?;
    match text.trim().is_empty() {
        true => Err(RowError::EmptyCompletion { key: key.to_owned() }),
        false => Ok(text),
    }
}

fn string(object: &Object<'_>, key: &'static str) -> Result<String, RowError> {
    match object.value(key)? {
        Some(Value::String(text)) => Ok(text),
        None if object.is_cell(key) => Ok(String::new()),
        found => Err(wrong_type(key, "a string", &found.unwrap_or_default())),
    }
}

/// A string; `None` if it is absent, null or empty.
fn optional_string(object: &Object<'_>, key: &str) -> Result<Option<String>, RowError> {
    match object.value(key)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(wrong_type(key, "a string", &other)),
    }
}

fn list(object: &Object<'_>, key: &'static str) -> Result<Vec<Value>, RowError> {
    match object.nested(key)? {
        Some(Value::Array(items)) => Ok(items),
        found => Err(wrong_type(key, "a list of messages", &found.unwrap_or_default())),
    }
}

//! From an object to a row, by the shape of the file's rows.

use serde_json::{Map, Value};

use super::messages::{self, Turns};
use super::object::{Object, wrong_type};
use super::{RowError, RowShape};
use crate::{Conversation, Row, RowContent};

/// The row of an object, and its shape. `first` is the shape of the rows before it.
pub(super) fn row(
    object: &Object<'_>,
    first: Option<RowShape>,
) -> Result<(Row, RowShape), RowError> {
    let keys = object.keys();
    let shape = match first {
        Some(shape) => shape.expect(&keys).map(|()| shape),
        None => RowShape::of(&keys),
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
    let Some(Value::Array(prompt)) = object.value("prompt")? else {
        let (prompt, completion) = (string(object, "prompt")?, completion(object, "completion")?);
        return Ok((RowContent::Pair { prompt, completion }, RowShape::PromptCompletion));
    };
    let completion = list(object, "completion")?;
    let mut turns = Turns::read("prompt", prompt)?;
    turns.leave_out_of_loss();
    turns.extend(Turns::read("completion", completion)?);
    let conversation = turns.into_conversation("completion", messages::tools(object)?)?;
    Ok((RowContent::Conversation(conversation), RowShape::MessageLists))
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
    Ok(RowContent::Conversation(turns.into_conversation(key, messages::tools(object)?)?))
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
    Ok(RowContent::Conversation(Conversation::new(messages.into(), in_loss, None)))
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

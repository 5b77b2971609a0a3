//! Objects of JSON Lines and JSON arrays, with their lines.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::object::Object;
use super::recognise::Looks;
use super::{RowError, value::without_line};

/// Why a text that begins with `[` is no array of objects.
pub(super) enum NotItems {
    /// Another kind of file.
    Looks(Looks),
    /// An error in a line.
    Syntax(usize, RowError),
}

/// Objects of JSON Lines; blank lines are skipped.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Result<Object<'_>, RowError>)> {
    let lines = (1..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(line, json)| (line, Object::parse(json)))
}

/// Items of a JSON array and the lines at which they begin.
pub(super) fn items(
    text: &str,
) -> Result<impl Iterator<Item = (usize, Result<Object<'_>, RowError>)>, NotItems> {
    let items: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| not_array(text, &error))?;
    let kind = |starts: fn(u8) -> bool| {
        items.first().and_then(|item| item.get().bytes().next()).is_some_and(starts)
    };
    if kind(|byte| byte == b'"') {
        return Err(NotItems::Looks(LIST_OF_STRINGS));
    }
    if kind(|byte| byte == b'[') {
        return Err(NotItems::Looks(LIST_OF_LISTS));
    }
    let (mut line, mut counted) = (1, 0);
    Ok(items.into_iter().map(move |item| {
        let item = item.get();
        // The items are slices of the text.
        let offset = item.as_ptr().addr() - text.as_ptr().addr();
        line += text[counted..offset].matches('\n').count();
        counted = offset;
        (line, Object::parse(item))
    }))
}

const LIST_OF_STRINGS: Looks =
    ("a plain list of strings", "write objects with `text`, or with `prompt` and `completion`");
const LIST_OF_LISTS: Looks =
    ("a list of lists", "write objects with `prompt` and `completion`, or with `messages`");

fn not_array(text: &str, error: &serde_json::Error) -> NotItems {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let is_array = values.next().is_some_and(|value| value.is_ok());
    if is_array && text[values.byte_offset()..].trim_start().starts_with('[') {
        return NotItems::Looks((
            "lists on several lines",
            "write one object per line, or a single array of objects",
        ));
    }
    NotItems::Syntax(error.line(), RowError::Syntax { reason: without_line(error) })
}

/// What a text that begins with `{` looks like if its first object takes several lines.
pub(super) fn spread_object(text: &str) -> Option<Looks> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let first = text[..values.byte_offset()].trim();
    if !first.contains('\n') {
        return None;
    }
    Some(match text[values.byte_offset()..].trim().is_empty() {
        true => (
            "one JSON object over several lines",
            "write the rows as a JSON array, or one object per line",
        ),
        false => (
            "JSON objects that take several lines each",
            "write each on one line, for example with jq -c, or all as a JSON array",
        ),
    })
}

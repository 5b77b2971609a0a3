use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

/// A tool call that an answer makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Name of the tool.
    pub name: String,
    /// Its arguments: a JSON object, as the model wrote it.
    pub arguments: String,
}

/// Format of tool calls, as a chat template renders them: `open`, calls with `between` between them, `close`, and an
/// end-of-sequence token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFormat {
    /// Text before the first call, after what the template inserts before every answer.
    pub(crate) open: String,
    pub(crate) body: Body,
    /// Text between two calls; `None` if the template renders one call alone.
    pub(crate) between: Option<String>,
    /// Text after the last call.
    pub(crate) close: String,
    /// Whether ids of calls must be nine letters and digits.
    pub(crate) short_ids: bool,
    /// Special tokens in the texts above, and their texts.
    pub(crate) special: BTreeMap<u32, String>,
}

/// What a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Json(JsonBody),
    Named(NameBody),
}

/// A JSON object with the name and the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonBody {
    /// Keys from the outermost object to the one with the name and the arguments.
    pub(crate) path: Vec<String>,
    pub(crate) name_key: String,
    pub(crate) arguments_key: String,
    /// Whether the calls are the items of a JSON list.
    pub(crate) is_list: bool,
    /// The object with [`NAME`] and [`ARGUMENTS`] for the values, without ids.
    pub(crate) written: String,
}

/// The name, and the arguments in JSON after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameBody {
    /// Text after the name.
    pub(crate) middle: String,
    /// Text before the arguments and after the call's id, if the call has an id in between.
    pub(crate) after_id: Option<String>,
}

/// Places of the name and the arguments in [`JsonBody::written`].
pub(crate) const NAME: char = '\u{fdd0}';
pub(crate) const ARGUMENTS: char = '\u{fdd1}';

impl CallFormat {
    /// Text that begins calls, without white space around it; empty if the calls are the whole answer.
    pub(crate) fn trigger(&self) -> &str {
        let open = self.open.trim();
        match &self.body {
            Body::Json(JsonBody { is_list: true, .. }) => {
                open.strip_suffix('[').unwrap_or(open).trim_end()
            }
            _ => open,
        }
    }

    /// Text that ends calls, after a list's end, without white space around it.
    pub(crate) fn end(&self) -> &str {
        let close = self.close.trim();
        match &self.body {
            Body::Json(JsonBody { is_list: true, .. }) => {
                close.strip_prefix(']').unwrap_or(close).trim_start()
            }
            _ => close,
        }
    }

    /// Whether the chat template takes only ids of nine letters and digits for the calls of earlier messages.
    pub fn has_short_ids(&self) -> bool {
        self.short_ids
    }

    /// Special tokens of the format: an answer must [show](crate::Answer::showing) them so that its calls are found.
    pub fn special_tokens(&self) -> BTreeSet<u32> {
        self.special.keys().copied().collect()
    }

    /// Literal texts of the format.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        let in_body = match &self.body {
            Body::Json(_) => [None, None],
            Body::Named(NameBody { middle, after_id }) => [Some(&**middle), after_id.as_deref()],
        };
        let around = [Some(&*self.open), self.between.as_deref(), Some(&*self.close)];
        around.into_iter().chain(in_body).flatten()
    }
}

impl JsonBody {
    /// The call that an object is, if it is one.
    pub(crate) fn call(&self, json: &str) -> Option<ToolCall> {
        let outer: Fields<'_> = serde_json::from_str(json).ok()?;
        let inner = self.path.iter().try_fold(json, |object, key| {
            serde_json::from_str::<Fields<'_>>(object).ok()?.get(&**key).map(|value| value.get())
        });
        let inner: Option<Fields<'_>> = inner.and_then(|object| serde_json::from_str(object).ok());
        inner.and_then(|fields| self.call_of(&fields)).or_else(|| self.call_of(&outer))
    }

    fn call_of(&self, fields: &Fields<'_>) -> Option<ToolCall> {
        let keys = [&*self.arguments_key, "arguments", "parameters"];
        let arguments = keys.into_iter().find_map(|key| fields.get(key))?.get();
        let name = serde_json::from_str(fields.get(&*self.name_key)?.get()).ok()?;
        // Some models write the arguments as a string.
        let inside: Option<String> = serde_json::from_str(arguments).ok();
        let arguments = inside.unwrap_or_else(|| arguments.to_owned());
        Some(ToolCall { name, arguments }).filter(ToolCall::has_object)
    }
}

impl NameBody {
    /// What ends the name: `middle` without white space around it, unless it is nothing else.
    pub(crate) fn middle_text(&self) -> &str {
        match self.middle.trim() {
            "" => &self.middle,
            text => text,
        }
    }
}

type Fields<'j> = BTreeMap<Cow<'j, str>, &'j RawValue>;

impl ToolCall {
    /// Whether there is a name, and the arguments are a JSON object.
    pub(crate) fn has_object(&self) -> bool {
        !self.name.is_empty() && serde_json::from_str::<Fields<'_>>(&self.arguments).is_ok()
    }
}

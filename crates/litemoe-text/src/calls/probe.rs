//! Derives the format of tool calls from a chat template, by rendering calls with names and arguments that are found
//! again.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::format::{ARGUMENTS, Body, CallFormat, JsonBody, NAME, NameBody};
use crate::ChatTemplate;

/// Names, arguments and ids of the probes. Some templates require ids of nine letters and digits.
const PROBES: [Probe; 2] = [
    Probe { name: "zqfirst", key: "zqkeyone", value: "zqvalueone", id: "zqid00001" },
    Probe { name: "zqsecond", key: "zqkeytwo", value: "zqvaluetwo", id: "zqid00002" },
];

struct Probe {
    name: &'static str,
    key: &'static str,
    value: &'static str,
    id: &'static str,
}

impl Probe {
    fn arguments(&self) -> Value {
        Value::from_iter([(self.key, self.value)])
    }

    fn call(&self, id: &str) -> Value {
        let function = json!({ "name": self.name, "arguments": self.arguments() });
        json!({ "id": id, "type": "function", "function": function })
    }
}

/// The format of a template's calls; `None` if it renders none, or not so that they can be told from other text. `lead`
/// is what the template inserts before every answer, `ends` the texts of end-of-sequence tokens.
pub(crate) fn probed(template: &ChatTemplate, lead: &str, ends: &[String]) -> Option<CallFormat> {
    let contents = [Some(json!("")), Some(Value::Null), None];
    contents.iter().find_map(|content| {
        let prompt = rendered(template, None)?;
        let answer = |n: usize| {
            let calls = PROBES[..n].iter().map(|probe| probe.call(probe.id)).collect();
            let whole = rendered(template, Some((content.as_ref(), calls)))?;
            let answer = whole.strip_prefix(&prompt)?;
            Some(answer.strip_prefix(lead).unwrap_or(answer).to_owned())
        };
        let format = format(&answer(1)?, answer(2).as_deref(), ends)?;
        let with_long_id = vec![PROBES[0].call("call_0123456789abcdef")];
        let short_ids = rendered(template, Some((content.as_ref(), with_long_id))).is_none();
        Some(CallFormat { short_ids, ..format })
    })
}

/// A conversation with a user's message, and perhaps the assistant's with a content and calls.
fn rendered(
    template: &ChatTemplate,
    answer: Option<(Option<&Value>, Vec<Value>)>,
) -> Option<String> {
    let tools = PROBES.each_ref().map(|probe| {
        let parameters = json!({ "type": "object", "properties": { probe.key: { "type": "string", "description": "d" } } });
        json!({ "type": "function", "function": { "name": probe.name, "description": "d", "parameters": parameters } })
    });
    let is_prompt = answer.is_none();
    let mut messages = vec![json!({ "role": "user", "content": "m" })];
    if let Some((content, calls)) = answer {
        let mut message = json!({ "role": "assistant", "tool_calls": calls });
        if let Some(content) = content {
            message["content"] = content.clone();
        }
        messages.push(message);
    }
    let messages: Vec<Map<String, Value>> =
        messages.into_iter().filter_map(|message| message.as_object().cloned()).collect();
    let variables = json!({ "tools": tools, "add_generation_prompt": is_prompt });
    template.render_json(&messages, variables.as_object()?).ok()
}

fn format(one: &str, two: Option<&str>, ends: &[String]) -> Option<CallFormat> {
    let first = Found::new(one, &PROBES[0])?;
    let between = two.and_then(|two| {
        let (again, second) = (Found::new(two, &PROBES[0])?, Found::new(two, &PROBES[1])?);
        let is_alike = two[..again.call.start] == one[..first.call.start]
            && end_of(&two[second.call.end..], ends) == end_of(&one[first.call.end..], ends);
        is_alike.then(|| two.get(again.call.end..second.call.start).map(str::to_owned))?
    });
    let open = one[..first.call.start].to_owned();
    let close = end_of(&one[first.call.end..], ends).to_owned();
    let has_id = |text: &str| PROBES.iter().any(|probe| text.contains(probe.id));
    if [Some(&open), between.as_ref(), Some(&close)].into_iter().flatten().any(|text| has_id(text))
    {
        return None;
    }
    let (short_ids, special) = (false, BTreeMap::new());
    let format = CallFormat { open, body: first.body, between, close, short_ids, special };
    let is_clear = match &format.body {
        Body::Json(_) => format.trigger().is_empty() || is_distinctive(format.trigger()),
        Body::Named(_) => is_distinctive(format.trigger()),
    };
    is_clear.then_some(format)
}

/// Whether a text is unlikely to be content.
fn is_distinctive(text: &str) -> bool {
    text.len() >= 4 && text.contains(|c: char| !c.is_alphanumeric() && !c.is_whitespace())
}

/// What comes before the end of the answer.
fn end_of<'t>(after: &'t str, ends: &[String]) -> &'t str {
    let end = ends.iter().filter_map(|end| after.find(end.as_str())).min();
    match end {
        Some(end) => &after[..end],
        None => after.trim_end(),
    }
}

/// A call in a rendered answer.
struct Found {
    body: Body,
    call: Range<usize>,
}

impl Found {
    fn new(text: &str, probe: &Probe) -> Option<Self> {
        let name = once(text, probe.name)?;
        let arguments = arguments(text, probe)?;
        if let Some(found) = Self::json(text, probe, &name, &arguments) {
            return Some(found);
        }
        let middle = text.get(name.end..arguments.start).filter(|middle| !middle.is_empty())?;
        let body = match middle.split_once(probe.id) {
            Some((middle, after_id)) if !middle.is_empty() && !after_id.is_empty() => {
                NameBody { middle: middle.to_owned(), after_id: Some(after_id.to_owned()) }
            }
            Some(_) => return None,
            None => NameBody { middle: middle.to_owned(), after_id: None },
        };
        Some(Self { body: Body::Named(body), call: name.start..arguments.end })
    }

    /// A call that is a JSON object, perhaps in a list.
    fn json(
        text: &str,
        probe: &Probe,
        name: &Range<usize>,
        arguments: &Range<usize>,
    ) -> Option<Self> {
        let last = name.start.min(arguments.start);
        let begins = text[..last].match_indices('{').map(|(at, _)| at);
        // The outermost object.
        let (call, object) = begins.into_iter().find_map(|at| {
            let object = value_at(text, at).filter(|(object, _)| object.is_object());
            let (object, end) = object?;
            (end >= name.end.max(arguments.end)).then_some((at..end, object))
        })?;
        let (path, name_key, arguments_key) = keys(&object, probe)?;
        let before = text[..call.start].trim_end();
        let is_list = before.ends_with('[');
        let body = JsonBody {
            path,
            name_key,
            arguments_key,
            is_list,
            written: written(&object, probe, text[call.clone()].contains("\": ")),
        };
        Some(Self { body: Body::Json(body), call })
    }
}

/// Where a text is found, if it is once.
fn once(text: &str, part: &str) -> Option<Range<usize>> {
    let at = text.find(part)?;
    let is_once = text.rfind(part) == Some(at);
    is_once.then_some(at..at + part.len())
}

/// The probe's arguments as JSON.
fn arguments(text: &str, probe: &Probe) -> Option<Range<usize>> {
    let key = once(text, probe.key)?;
    let start = text[..key.start].rfind('{')?;
    let (value, end) = value_at(text, start)?;
    (value == probe.arguments()).then_some(start..end)
}

/// The JSON value at a byte offset, and the offset after it.
fn value_at(text: &str, at: usize) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, at + values.byte_offset()))
}

/// The path to the object with the name and the arguments, and their keys.
fn keys(object: &Value, probe: &Probe) -> Option<(Vec<String>, String, String)> {
    let fields = object.as_object()?;
    let key = |expected: &Value| {
        fields.iter().find(|(_, value)| *value == expected).map(|(key, _)| key.clone())
    };
    if let (Some(name), Some(arguments)) = (key(&probe.name.into()), key(&probe.arguments())) {
        return Some((Vec::new(), name, arguments));
    }
    fields.iter().find_map(|(key, value)| {
        let (mut path, name, arguments) = keys(value, probe)?;
        path.insert(0, key.clone());
        Some((path, name, arguments))
    })
}

/// The object with marks for the name and the arguments, and without ids.
fn written(value: &Value, probe: &Probe, is_spaced: bool) -> String {
    let (colon, comma) = if is_spaced { (": ", ", ") } else { (":", ",") };
    match value {
        Value::String(text) if text == probe.name => format!("\"{NAME}\""),
        value if *value == probe.arguments() => ARGUMENTS.to_string(),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| *value != probe.id);
            let fields = fields.map(|(key, value)| {
                format!("{}{colon}{}", Value::from(&**key), written(value, probe, is_spaced))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(comma))
        }
        other => other.to_string(),
    }
}

//! Grammars of tool calls.

use llguidance::api::TopLevelGrammar;
use serde_json::Value;

use super::json::json_grammar;
use super::lark::{Part, literal, sequence};
use super::{CallChoice, GrammarError};
use crate::calls::{ARGUMENTS, Body, CallFormat, JsonBody, NAME, NameBody};

/// Maximum number of tools.
const MAX_TOOLS: usize = 128;

/// The grammar of an answer. `parts` tells special tokens from text; `lead` is the rule `before`, of what may come first.
pub(super) fn grammar(
    choice: &CallChoice,
    format: &CallFormat,
    parts: &dyn Fn(&str) -> Vec<Part>,
    lead: &str,
) -> Result<TopLevelGrammar, GrammarError> {
    if choice.tools.is_empty() {
        return Err(GrammarError::Refused { reason: "there is no tool to call".to_owned() });
    }
    if choice.tools.len() > MAX_TOOLS {
        return Err(GrammarError::TooLarge { what: "tools", max: MAX_TOOLS });
    }
    let rules = Rules { format, parts };
    let start = match choice.may_answer {
        true => rules.with_content(),
        false => format!("start: before open calls\nopen: {}\n", rules.parts(&format.open)),
    };
    let more = match &format.between {
        Some(between) if choice.is_parallel => format!(" ( {} call )*", rules.parts(between)),
        _ => String::new(),
    };
    let calls = format!("calls: call{more} {}\n", rules.parts(&format.close));
    let alternatives = choice.tools.iter().enumerate();
    let alternatives = alternatives.map(|(index, tool)| rules.call(&tool.name, index));
    let call = format!("call: {}\n", alternatives.collect::<Vec<_>>().join(" | "));
    let lark = [&start, lead, &calls, &call, ANY].concat();
    let mut grammar = TopLevelGrammar::from_lark(lark);
    for (index, tool) in choice.tools.iter().enumerate() {
        let name = format!("a{index}");
        let arguments = json_grammar(&name, &object(&tool.parameters));
        let arguments = match arguments {
            Err(_) if !tool.is_strict => json_grammar(&name, &object(&Value::Null)),
            arguments => arguments,
        };
        let in_tool =
            |error| GrammarError::Tool { name: tool.name.clone(), error: Box::new(error) };
        grammar.grammars.push(arguments.map_err(in_tool)?);
    }
    Ok(grammar)
}

const ANY: &str = "ANY: /(?s:.*)/\nSOME: /(?s:.+)/\nID: /[a-zA-Z0-9]{9}/\n";

struct Rules<'t> {
    format: &'t CallFormat,
    parts: &'t dyn Fn(&str) -> Vec<Part>,
}

impl Rules<'_> {
    fn parts(&self, text: &str) -> String {
        match text {
            "" => "\"\"".to_owned(),
            _ => sequence(&(self.parts)(text)),
        }
    }

    /// A call of one tool.
    fn call(&self, name: &str, index: usize) -> String {
        let arguments = format!("@a{index}");
        match &self.format.body {
            Body::Json(JsonBody { written, .. }) => {
                let quoted = Value::from(name).to_string();
                let written = written.replace(&format!("\"{NAME}\""), &quoted);
                let (before, after) = written.split_once(ARGUMENTS).unwrap_or((&written, ""));
                let literals = [before, after].map(literal);
                format!("{} {arguments} {}", literals[0], literals[1])
            }
            Body::Named(NameBody { middle, after_id }) => {
                let named = self.parts(&format!("{name}{middle}"));
                let id = after_id.as_ref().map(|after| format!("ID {}", self.parts(after)));
                format!("{named} {} {arguments}", id.unwrap_or_default())
            }
        }
    }

    /// An answer with content, calls, or both. Content does not have what announces calls.
    fn with_content(&self) -> String {
        let open = self.format.open.trim_start();
        let parts = (self.parts)(open);
        let announced = match (self.format.trigger(), parts.first()) {
            ("", _) => {
                let open = self.parts(&self.format.open);
                return format!(
                    "start: before {open} calls | before PLAIN?\nPLAIN: /[^\\s\\[{{](?s:.*)/\n"
                );
            }
            (_, Some(Part::Text(first))) => {
                first.trim_end().strip_suffix('[').unwrap_or(first).trim()
            }
            _ => return format!("start: SOME? ( {} calls )?\n", sequence(&parts)),
        };
        let text = literal(announced);
        let rest = self.parts(&open[announced.len()..]);
        format!(
            "start: PLAIN? | UNTIL {rest} calls\nPLAIN: SOME & ~( ANY {text} ANY )\n\
             UNTIL: ANY {text} & ~( ANY {text} SOME )\n"
        )
    }
}

/// The schema of parameters, which are an object.
fn object(parameters: &Value) -> Value {
    let mut schema = match parameters {
        Value::Null => Value::Object(serde_json::Map::new()),
        schema => schema.clone(),
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.entry("type").or_insert_with(|| "object".into());
    }
    schema
}

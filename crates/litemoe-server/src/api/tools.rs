use std::sync::Arc;

use litemoe_text::{CallChoice, CallTool, GrammarKind};
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::shape::Shape;

/// Tools that an answer may call.
#[derive(Debug)]
pub(crate) struct Tools {
    /// As the request has them; none with `tool_choice` `none`.
    pub(crate) all: Vec<Value>,
    choice: Choice,
    is_parallel: bool,
}

/// Which calls an answer makes.
#[derive(Debug, PartialEq)]
enum Choice {
    /// Content, calls, or both.
    Auto,
    /// At least one call.
    Required,
    /// Calls of this tool.
    Named(String),
}

/// Reads the tools, which are none if `tool_choice` is `none`.
pub(crate) fn take(fields: &mut Fields) -> Result<Tools, ApiError> {
    let mut all: Vec<Value> = fields.optional("tools", "a list of tools")?.unwrap_or_default();
    let choice: Value = fields.optional("tool_choice", "a choice")?.unwrap_or("auto".into());
    let is_parallel = fields.optional("parallel_tool_calls", "a boolean")?.unwrap_or(true);
    let choice = match choice.as_str() {
        Some("none") => {
            all.clear();
            Choice::Auto
        }
        Some("auto") => Choice::Auto,
        Some("required") => Choice::Required,
        _ => Choice::Named(named(fields, &choice)?),
    };
    let tools = Tools { all, choice, is_parallel };
    let is_missing = match &tools.choice {
        Choice::Auto => false,
        Choice::Required => tools.all.is_empty(),
        Choice::Named(name) => !tools.all.iter().any(|tool| name_of(tool) == Some(name)),
    };
    match is_missing {
        true => Err(fields.invalid("tool_choice", "invalid_value", "of a tool in `tools`")),
        false => Ok(tools),
    }
}

/// The name in a choice of one tool.
fn named(fields: &Fields, choice: &Value) -> Result<String, ApiError> {
    let kind = choice.get("type").and_then(Value::as_str);
    let name = choice.get("function").and_then(name_in);
    match (kind, name) {
        (Some("function"), Some(name)) => Ok(name.to_owned()),
        _ => Err(fields.unsupported("tool_choice", choice)),
    }
}

fn name_in(function: &Value) -> Option<&str> {
    function.get("name").and_then(Value::as_str)
}

fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function").and_then(name_in)
}

fn is_strict(tool: &Value) -> bool {
    tool["function"]["strict"] == true
}

impl Tools {
    /// Names of the tools.
    pub(crate) fn names(&self) -> Arc<[String]> {
        self.all.iter().filter_map(name_of).map(str::to_owned).collect()
    }

    /// What answers must be so that the request is kept, if it demands anything.
    pub(crate) fn shape(&self) -> Option<Shape> {
        let strict = self.all.iter().position(is_strict);
        let param = match (&self.choice, strict) {
            _ if self.all.is_empty() => return None,
            (Choice::Required | Choice::Named(_), _) => "tool_choice".to_owned(),
            (Choice::Auto, Some(index)) => format!("tools[{index}].function.strict"),
            (Choice::Auto, None) if !self.is_parallel => "parallel_tool_calls".to_owned(),
            (Choice::Auto, None) => return None,
        };
        let is_chosen = |tool: &&Value| match &self.choice {
            Choice::Named(name) => name_of(tool) == Some(name),
            Choice::Auto | Choice::Required => true,
        };
        let tools = self.all.iter().filter(is_chosen).filter_map(|tool| {
            let (name, parameters) = (name_of(tool)?, &tool["function"]["parameters"]);
            let (name, parameters) = (name.to_owned(), parameters.clone());
            Some(CallTool { name, parameters, is_strict: is_strict(tool) })
        });
        let choice = CallChoice {
            tools: tools.collect(),
            is_parallel: self.is_parallel && !matches!(self.choice, Choice::Named(_)),
            may_answer: self.choice == Choice::Auto,
        };
        Some(Shape { kind: GrammarKind::Calls(choice), param })
    }
}

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::python::{self, Raised};
use crate::{TextError, assistant_mask, bounded, tags};

const NAME: &str = "chat_template";

/// Fuel of one rendering, because templates are untrusted. About one unit per instruction and per 64 bytes, so it also
/// bounds the memory of strings to about 130 MB, twice that while one string is built from another.
const FUEL: u64 = 2_000_000;

/// Maximum bytes of a template: many times the longest known one.
pub(crate) const MAX_SOURCE: usize = 1 << 20;

/// Maximum bytes of a rendered conversation: longer than any model's context.
const MAX_OUTPUT: usize = 16 << 20;

/// Names of a message's reasoning, the standard one first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Role: `system`, `user`, `assistant`, or another that the template knows.
    pub role: String,
    /// Text of the message.
    pub content: String,
}

impl Message {
    /// A user's message.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }

    /// The assistant's message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".to_owned(), content: content.into() }
    }

    fn to_value(&self) -> Value {
        Value::from_pairs([("role", &self.role), ("content", &self.content)])
    }
}

/// Chat template: a Jinja template that renders a conversation as one text, as transformers' `apply_chat_template`
/// does.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    named_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template. `named_tokens` (`bos_token`, `eos_token`, …) become variables.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], and [`TextError::TemplateTooLarge`] for more than 1 MiB.
    pub fn new(source: &str, named_tokens: BTreeMap<String, String>) -> Result<Self, TextError> {
        if source.len() > MAX_SOURCE {
            return Err(TextError::TemplateTooLarge { bytes: source.len(), max_bytes: MAX_SOURCE });
        }
        let syntax = |error: Error| TextError::TemplateSyntax { reason: describe(&error) };
        let mut environment = Environment::new();
        let whitespace = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(whitespace.map_err(syntax)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        bounded::add_to(&mut environment);
        python::add_to(&mut environment);
        assistant_mask::add_to(&mut environment);
        let source =
            tags::rewritten(source).map_err(|reason| TextError::TemplateSyntax { reason })?;
        environment.add_template_owned(NAME, source).map_err(syntax)?;
        Ok(Self { environment, named_tokens })
    }

    /// Renders a conversation; with `add_generation_prompt`, up to where the assistant continues.
    ///
    /// # Errors
    /// [`TextError::TemplateRaised`] if the template itself refuses the messages, otherwise
    /// [`TextError::TemplateFailed`], [`TextError::TemplateTooLong`] or [`TextError::TemplateTooMuch`].
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let messages = messages.iter().map(Message::to_value).collect();
        self.write(messages, [("add_generation_prompt", Value::from(add_generation_prompt))])
    }

    /// Renders a conversation of JSON objects with any keys, as the lines of OpenAI's files and transformers have them:
    /// `tool_calls`, `reasoning_content`, parts of a content. `variables` are the template's others, such as
    /// `add_generation_prompt`, `tools`, `documents` and `enable_thinking`; they hide named tokens.
    ///
    /// Keys that are null are left out, and reasoning has its other names too (`thinking`, `reasoning`), as in
    /// transformers.
    ///
    /// # Errors
    /// Those of [`render`](Self::render).
    pub fn render_json(
        &self,
        messages: &[Map<String, serde_json::Value>],
        variables: &Map<String, serde_json::Value>,
    ) -> Result<String, TextError> {
        let variables = variables.iter().map(|(name, value)| (&**name, Value::from(Serde(value))));
        self.render_objects(messages, variables)
    }

    pub(crate) fn render_objects<'v>(
        &'v self,
        messages: &[Map<String, serde_json::Value>],
        variables: impl IntoIterator<Item = (&'v str, Value)>,
    ) -> Result<String, TextError> {
        self.write(messages.iter().map(as_transformers).collect(), variables)
    }

    fn write<'v>(
        &'v self,
        messages: Value,
        variables: impl IntoIterator<Item = (&'v str, Value)>,
    ) -> Result<String, TextError> {
        let template = self.environment.get_template(NAME).map_err(|error| failure(&error))?;
        let none = ["tools", "documents"].map(|name| (name, Value::from(())));
        let no = ["add_generation_prompt", assistant_mask::MARKED];
        let defaults = none.into_iter().chain(no.map(|name| (name, Value::from(false))));
        let tokens =
            self.named_tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token)));
        let context = tokens.chain(defaults).chain(variables).chain([("messages", messages)]);
        let mut output = Output::default();
        let values = Value::from_pairs(context);
        // The engine panics on a `break` inside of `with`, which `generation` blocks become.
        let rendered = catch_unwind(AssertUnwindSafe(|| {
            template.render_captured_to(values, &mut output).map(|_| ())
        }));
        let Ok(rendered) = rendered else {
            let reason = "the engine panics, as on `break` inside of `with` or `generation`";
            return Err(TextError::TemplateFailed { reason: reason.to_owned() });
        };
        match rendered {
            _ if output.is_full => Err(TextError::TemplateTooMuch { max_bytes: MAX_OUTPUT }),
            Ok(()) => String::from_utf8(output.bytes)
                .map_err(|error| TextError::TemplateFailed { reason: error.to_string() }),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// A message as transformers gives it to a template: without nulls, its reasoning under each of the names.
fn as_transformers(message: &Map<String, serde_json::Value>) -> Value {
    let mut fields = Map::new();
    let is_set = |name: &&str| message.get(*name).is_some_and(|value| !value.is_null());
    let reasoning = REASONING.into_iter().find(is_set).map(|name| message[name].clone());
    if let Some(reasoning) = &reasoning {
        fields.insert("thinking".to_owned(), reasoning.clone());
    }
    let set = message.iter().filter(|(_, value)| !value.is_null());
    fields.extend(set.map(|(name, value)| (name.clone(), value.clone())));
    if let Some(reasoning) = reasoning {
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
    Value::from(Serde(fields))
}

/// Output buffer of a template, up to [`MAX_OUTPUT`].
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_full |= bytes.len() > MAX_OUTPUT - self.bytes.len();
        if self.is_full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure(error: &Error) -> TextError {
    if let Some(message) = raised(error) {
        return TextError::TemplateRaised { message };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TextError::TemplateTooLong { fuel: FUEL },
        _ => TextError::TemplateFailed { reason: describe(error) },
    }
}

/// Message of a `raise_exception` among an error's causes.
fn raised(error: &Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}

/// The error on one line, with its causes.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

use serde_json::{Map, Value};

use crate::assistant_mask::MARKED;
use crate::conversation::{content, role};
use crate::rows::{checked_documents, checked_tools, prompt_messages, wrong_type};
use crate::{ChatTemplate, Message, RowError, TextError, Tokenizer};

/// Keys of a prompt in JSON.
const KEYS: [&str; 4] = ["messages", "tools", "documents", "chat_template_kwargs"];

/// Variables of a template that a prompt sets itself.
const OWN: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// Removes one kind of thing from a prompt.
type Removal = fn(&mut Prompt);

/// Parts of a prompt that a template may leave out, and how they are removed.
const REMOVALS: [(&str, Removal); 4] = [
    ("tools", |prompt| prompt.tools.clear()),
    ("documents", |prompt| prompt.documents.clear()),
    ("tool calls", Prompt::remove_calls),
    ("tool messages", Prompt::remove_results),
];

/// Conversation to answer: messages, and what else the chat template renders, as in transformers'
/// `apply_chat_template(messages, tools=…, documents=…, add_generation_prompt=True, **variables)`.
///
/// Messages are JSON objects as in training rows: contents of several text parts are joined with newlines, and arguments
/// of tool calls that are JSON in a string are parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    messages: Vec<Map<String, Value>>,
    tools: Vec<Value>,
    documents: Vec<Value>,
    variables: Map<String, Value>,
}

impl Prompt {
    /// A conversation of these messages.
    ///
    /// # Errors
    /// [`RowError`] for a message without `role` or content, or with a malformed tool call; none for no messages.
    pub fn new(messages: Vec<Value>) -> Result<Self, RowError> {
        Ok(Self { messages: prompt_messages("messages", messages)?, ..Self::default() })
    }

    /// Reads JSON: a list of messages, or an object with `messages`, and perhaps `tools`, `documents` and
    /// `chat_template_kwargs`, the template's other variables.
    ///
    /// # Errors
    /// Those of [`new`](Self::new) and the other constructors, and of JSON; an unknown key, no messages.
    pub fn from_json(json: &str) -> Result<Self, RowError> {
        let syntax = |error: serde_json::Error| RowError::Syntax { reason: error.to_string() };
        let mut fields = match serde_json::from_str(json).map_err(syntax)? {
            messages @ Value::Array(_) => Map::from_iter([("messages".to_owned(), messages)]),
            Value::Object(fields) => fields,
            _ => {
                let reason = "neither a list of messages nor an object with `messages`".to_owned();
                return Err(RowError::Syntax { reason });
            }
        };
        if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(RowError::Unsupported {
                key: key.clone(),
                what: "no meaning in a prompt".to_owned(),
                advice: "the keys are `messages`, `tools`, `documents` and `chat_template_kwargs`",
            });
        }
        let mut take = |key: &str| fields.shift_remove(key).filter(|value| !value.is_null());
        let list = |key: &'static str, value: Option<Value>| match value {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(found) => Err(wrong_type(key, "a list", &found)),
        };
        let prompt = Self::new(list("messages", take("messages"))?)?;
        if prompt.messages.is_empty() {
            return Err(RowError::Missing { key: "messages" });
        }
        let variables = match take("chat_template_kwargs") {
            None => Map::new(),
            Some(Value::Object(variables)) => variables,
            Some(found) => {
                return Err(wrong_type("chat_template_kwargs", "an object", &found));
            }
        };
        prompt
            .with_tools(list("tools", take("tools"))?)?
            .with_documents(list("documents", take("documents"))?)?
            .with_variables(variables)
    }

    /// The prompt with JSON schemas of tools that the model may call.
    ///
    /// # Errors
    /// [`RowError::Type`] for a tool that is no object.
    pub fn with_tools(self, tools: Vec<Value>) -> Result<Self, RowError> {
        Ok(Self { tools: checked_tools(tools)?, ..self })
    }

    /// The prompt with documents to answer from.
    ///
    /// # Errors
    /// [`RowError::Type`] for a document that is no object.
    pub fn with_documents(self, documents: Vec<Value>) -> Result<Self, RowError> {
        Ok(Self { documents: checked_documents(documents)?, ..self })
    }

    /// The prompt with other variables of the template, such as `enable_thinking`.
    ///
    /// # Errors
    /// [`RowError::Unsupported`] for a variable that the prompt sets itself.
    pub fn with_variables(self, variables: Map<String, Value>) -> Result<Self, RowError> {
        let reserved = |name: &&String| OWN.contains(&name.as_str()) || *name == MARKED;
        match variables.keys().find(reserved) {
            Some(name) => Err(RowError::Unsupported {
                key: format!("chat_template_kwargs.{name}"),
                what: "a variable that is set otherwise".to_owned(),
                advice: "leave it out",
            }),
            None => Ok(Self { variables, ..self }),
        }
    }

    /// The prompt with other messages.
    #[must_use]
    pub fn with_messages(self, messages: &[Message]) -> Self {
        let message = |Message { role, content }: &Message| {
            let pairs = [("role", role), ("content", content)];
            pairs.map(|(key, text)| (key.to_owned(), text.clone().into())).into_iter().collect()
        };
        Self { messages: messages.iter().map(message).collect(), ..self }
    }

    /// The messages.
    pub fn messages(&self) -> &[Map<String, Value>] {
        &self.messages
    }

    /// Renders the prompt, up to where the assistant continues.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`]; [`TextError::NotRendered`] if the template prints nothing of the tools, the
    /// documents, the messages' tool calls, or the messages of tools.
    pub fn render(&self, template: &ChatTemplate) -> Result<String, TextError> {
        let render = |prompt: &Self| template.render_json(&prompt.messages, &prompt.context());
        let text = render(self)?;
        for (what, remove) in REMOVALS {
            let mut without = self.clone();
            remove(&mut without);
            // A template may require them, and fail without.
            if without != *self && render(&without).is_ok_and(|without| without == text) {
                return Err(TextError::NotRendered { what });
            }
        }
        Ok(text)
    }

    fn remove_calls(&mut self) {
        let has_calls = |message: &Map<String, Value>| {
            let calls = message.get("tool_calls").and_then(Value::as_array);
            calls.is_some_and(|calls| !calls.is_empty())
        };
        for message in self.messages.iter_mut().filter(|message| has_calls(message)) {
            message.shift_remove("tool_calls");
        }
    }

    /// Removes the messages of tools, except empty ones: a template that prints contents alone prints nothing of those.
    fn remove_results(&mut self) {
        self.messages.retain(|message| {
            role(message) != "tool" || content(message).is_none_or(str::is_empty)
        });
    }

    /// The template's variables, apart from the messages.
    fn context(&self) -> Map<String, Value> {
        let list = |items: &Vec<Value>| match items.is_empty() {
            true => Value::Null,
            false => items.clone().into(),
        };
        let own = [
            ("tools", list(&self.tools)),
            ("documents", list(&self.documents)),
            ("add_generation_prompt", true.into()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.variables.clone().into_iter().chain(own).collect()
    }

    /// Text of the only message, if it is a user's and there is nothing else.
    pub fn user_text(&self) -> Option<&str> {
        let [message] = self.messages.as_slice() else { return None };
        let is_plain = self.tools.is_empty() && self.documents.is_empty();
        match (message.get("role")?.as_str()?, message.get("content")?.as_str()?) {
            ("user", text) if is_plain && self.variables.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Bytes of all texts that a template may print.
    pub fn n_bytes(&self) -> usize {
        let messages = self.messages.iter().flat_map(Map::values);
        let others = self.tools.iter().chain(&self.documents).chain(self.variables.values());
        messages.chain(others).map(n_bytes).sum()
    }

    /// Roles of the messages, and what else there is.
    fn kinds(&self) -> String {
        let roles = self.messages.iter().map(role);
        let others = [
            ("tools", self.tools.is_empty()),
            ("documents", self.documents.is_empty()),
            ("variables", self.variables.is_empty()),
        ];
        let others = others.into_iter().filter(|(_, is_empty)| !is_empty).map(|(name, _)| name);
        match roles.chain(others).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "none".to_owned(),
            kinds => kinds,
        }
    }
}

/// Bytes of a value's texts, keys included.
fn n_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) | Value::Number(_) => size_of::<f64>(),
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(n_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + n_bytes(value)).sum(),
    }
}

impl From<&[Message]> for Prompt {
    fn from(messages: &[Message]) -> Self {
        Self::default().with_messages(messages)
    }
}

impl Tokenizer {
    /// Tokenizes a prompt, up to where the assistant continues.
    ///
    /// # Errors
    /// Those of [`Prompt::render`]; without a chat template, [`TextError::NoTemplate`] for anything but one user message.
    pub fn encode_chat(&self, prompt: &Prompt) -> Result<Vec<u32>, TextError> {
        match (self.template(), prompt.user_text()) {
            (Some(template), _) => self.encode_text(&prompt.render(template)?),
            (None, Some(text)) => self.encode_prompt(&[Message::user(text)]),
            (None, None) => Err(TextError::NoTemplate { given: prompt.kinds() }),
        }
    }
}

use serde_json::{Map, Value};

/// A conversation, the tools that the assistant may call and the documents that it answers from, as the chat template
/// sees them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conversation {
    messages: Vec<Map<String, Value>>,
    /// Whether the loss covers each message; only the assistant's can be true.
    in_loss: Vec<bool>,
    context: Context,
}

/// What a conversation's template renders besides the messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Context {
    pub(crate) tools: Option<Vec<Value>>,
    pub(crate) documents: Option<Vec<Value>>,
}

impl Conversation {
    /// A conversation whose loss covers the messages of `in_loss`, as many as `messages`. Every message has a string
    /// `role`; a `content` is a string or null.
    pub(crate) fn new(
        messages: Vec<Map<String, Value>>,
        in_loss: Vec<bool>,
        context: Context,
    ) -> Self {
        Self { messages, in_loss, context }
    }

    /// Messages: JSON objects with `role` and `content`, and any other keys.
    pub fn messages(&self) -> &[Map<String, Value>] {
        &self.messages
    }

    /// JSON schemas of the tools, if the row has any.
    pub fn tools(&self) -> Option<&[Value]> {
        self.context.tools.as_deref()
    }

    /// Documents to answer from, if the row has any.
    pub fn documents(&self) -> Option<&[Value]> {
        self.context.documents.as_deref()
    }

    /// The conversation without its documents.
    pub(crate) fn without_documents(&self) -> Self {
        let context = Context { documents: None, ..self.context.clone() };
        Self { context, ..self.clone() }
    }

    /// Indices of the messages in the loss, ascending.
    pub fn loss_turns(&self) -> Vec<usize> {
        let turns = self.in_loss.iter().enumerate().filter(|(_, covered)| **covered);
        turns.map(|(index, _)| index).collect()
    }

    /// Number of the assistant's messages.
    pub(crate) fn n_assistant(&self) -> usize {
        self.messages.iter().filter(|message| role(message) == "assistant").count()
    }

    /// Which of the assistant's messages are in the loss, in order.
    pub(crate) fn assistant_in_loss(&self) -> impl Iterator<Item = bool> {
        let turns = self.messages.iter().zip(&self.in_loss);
        turns.filter(|(message, _)| role(message) == "assistant").map(|(_, &covered)| covered)
    }

    /// Messages before the last message in the loss.
    pub fn prompt(&self) -> &[Map<String, Value>] {
        &self.messages[..self.last_turn()]
    }

    pub(crate) fn completion(&self) -> Option<&str> {
        content(self.messages.get(self.last_turn())?).filter(|text| !text.is_empty())
    }

    pub(crate) fn with_completion(&self, completion: &str) -> Option<Self> {
        self.completion()?;
        let last = self.last_turn();
        let mut changed = self.clone();
        changed.messages.truncate(last + 1);
        changed.in_loss.truncate(last + 1);
        changed.keep_last_turn();
        changed.messages[last].insert("content".to_owned(), completion.into());
        Some(changed)
    }

    pub(crate) fn keep_last_turn(&mut self) {
        let last = self.last_turn();
        for (index, covered) in self.in_loss.iter_mut().enumerate() {
            *covered &= index == last;
        }
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        self.messages.iter().filter_map(content).collect()
    }

    /// The messages with OpenAI's `weight`: 0 for the assistant's messages that are not in the loss.
    pub(crate) fn weighted_messages(&self) -> Vec<Map<String, Value>> {
        let weighted = |(message, &covered): (&Map<String, Value>, &bool)| {
            let mut message = message.clone();
            if role(&message) == "assistant" && !covered {
                message.insert("weight".to_owned(), 0.into());
            }
            message
        };
        self.messages.iter().zip(&self.in_loss).map(weighted).collect()
    }

    fn last_turn(&self) -> usize {
        self.in_loss.iter().rposition(|&covered| covered).unwrap_or(self.messages.len())
    }
}

/// Role of a message; empty if it has none.
pub(crate) fn role(message: &Map<String, Value>) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// Text of a message, if it has one.
pub(crate) fn content(message: &Map<String, Value>) -> Option<&str> {
    message.get("content").and_then(Value::as_str)
}

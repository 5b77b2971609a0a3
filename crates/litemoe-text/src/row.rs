use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::Conversation;

/// A training or evaluation example: what a model reads and what it is to write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// Text of the row.
    pub content: RowContent,
    /// Class label to group rows by; never compared with text.
    pub label: Option<String>,
    /// Other correct completions.
    pub references: Vec<String>,
}

/// Text of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowContent {
    /// One user's message and the assistant's answer; the loss covers the answer.
    Pair {
        /// The user's message.
        prompt: String,
        /// The assistant's message.
        completion: String,
    },
    /// A conversation; the loss covers the assistant's messages.
    Conversation(Conversation),
    /// Running text; the loss covers all of it.
    Text(String),
}

/// Which of a conversation's assistant messages the loss covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossTurns {
    /// All of them.
    #[default]
    AllTurns,
    /// The last one.
    LastTurn,
}

impl LossTurns {
    /// All values.
    pub const ALL: &[Self] = &[Self::AllTurns, Self::LastTurn];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllTurns => "all-turns",
            Self::LastTurn => "last-turn",
        }
    }

    /// One line about the value, for help texts.
    pub fn about(self) -> &'static str {
        match self {
            Self::AllTurns => "every message of the assistant, unless its weight is 0",
            Self::LastTurn => "its last message",
        }
    }
}

impl Row {
    /// A pair without label or references.
    pub fn new(prompt: impl Into<String>, completion: impl Into<String>) -> Self {
        RowContent::Pair { prompt: prompt.into(), completion: completion.into() }.into()
    }

    /// The completion that an answer is compared with: of a conversation, the text of its last message in the loss.
    /// `None` for running text, and if that message is a tool call without text.
    pub fn completion(&self) -> Option<&str> {
        match &self.content {
            RowContent::Pair { completion, .. } => Some(completion),
            RowContent::Conversation(conversation) => conversation.completion(),
            RowContent::Text(_) => None,
        }
    }

    /// The same prompt with another completion, without label and references; `None` for a row without
    /// [`completion`](Self::completion).
    #[must_use]
    pub fn with_completion(&self, completion: &str) -> Option<Self> {
        match &self.content {
            RowContent::Pair { prompt, .. } => Some(Self::new(prompt, completion)),
            RowContent::Conversation(conversation) => {
                Some(RowContent::Conversation(conversation.with_completion(completion)?).into())
            }
            RowContent::Text(_) => None,
        }
    }

    /// Limits the loss to some of a conversation's turns; other rows stay as they are.
    #[must_use]
    pub fn with_loss(mut self, turns: LossTurns) -> Self {
        if let (RowContent::Conversation(conversation), LossTurns::LastTurn) =
            (&mut self.content, turns)
        {
            conversation.keep_last_turn();
        }
        self
    }

    /// All texts of the row that its author wrote, in order.
    pub fn texts(&self) -> Vec<&str> {
        match &self.content {
            RowContent::Pair { prompt, completion } => vec![prompt, completion],
            RowContent::Conversation(conversation) => conversation.texts(),
            RowContent::Text(text) => vec![text],
        }
    }
}

impl From<RowContent> for Row {
    fn from(content: RowContent) -> Self {
        Self { content, label: None, references: Vec::new() }
    }
}

/// Writes the row as `prompt` and `completion`, `messages`, `tools` and `documents`, or `text`, with `label` and `references`, such
/// that it is read back as the same row.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.content {
            RowContent::Pair { prompt, completion } => {
                map.serialize_entry("prompt", prompt)?;
                map.serialize_entry("completion", completion)?;
            }
            RowContent::Conversation(conversation) => {
                map.serialize_entry("messages", &conversation.weighted_messages())?;
                if let Some(tools) = conversation.tools() {
                    map.serialize_entry("tools", tools)?;
                }
                if let Some(documents) = conversation.documents() {
                    map.serialize_entry("documents", documents)?;
                }
            }
            RowContent::Text(text) => map.serialize_entry("text", text)?,
        }
        if let Some(label) = &self.label {
            map.serialize_entry("label", label)?;
        }
        if !self.references.is_empty() {
            map.serialize_entry("references", &self.references)?;
        }
        map.end()
    }
}

impl std::str::FromStr for LossTurns {
    type Err = UnknownLossTurns;

    fn from_str(name: &str) -> Result<Self, UnknownLossTurns> {
        let known = Self::ALL.iter().copied().find(|turns| turns.name() == name);
        known.ok_or_else(|| UnknownLossTurns { name: name.to_owned() })
    }
}

impl std::fmt::Display for LossTurns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Error of parsing [`LossTurns`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown loss `{name}`: it is all-turns or last-turn")]
pub struct UnknownLossTurns {
    /// The given name.
    pub name: String,
}

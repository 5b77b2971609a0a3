use std::fmt;

/// Shape of a file's rows, found by the keys of its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowShape {
    /// `prompt` and `completion`, both texts.
    PromptCompletion,
    /// `prompt` and `completion`, both lists of messages, as TRL writes them.
    MessageLists,
    /// `messages` with `role` and `content`: OpenAI's format for fine-tuning.
    Messages,
    /// `instruction`, `input` and `output`: Alpaca's format.
    Instruction,
    /// `conversations` with `from` and `value`: ShareGPT's format.
    Conversations,
    /// `text`: running text.
    Text,
}

impl RowShape {
    /// Short name, such as `messages`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PromptCompletion => "prompt_completion",
            Self::MessageLists => "message_lists",
            Self::Messages => "messages",
            Self::Instruction => "instruction",
            Self::Conversations => "conversations",
            Self::Text => "text",
        }
    }

    /// Keys that a row of this shape must have.
    pub(super) fn required(self) -> &'static [&'static str] {
        match self {
            Self::PromptCompletion | Self::MessageLists => &["prompt", "completion"],
            Self::Messages => &["messages"],
            Self::Instruction => &["instruction", "output"],
            Self::Conversations => &["conversations"],
            Self::Text => &["text"],
        }
    }
}

impl fmt::Display for RowShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PromptCompletion => "`prompt` and `completion`, texts",
            Self::MessageLists => "`prompt` and `completion`, lists of messages",
            Self::Messages => "`messages`",
            Self::Instruction => "`instruction` and `output`",
            Self::Conversations => "`conversations`",
            Self::Text => "`text`",
        })
    }
}

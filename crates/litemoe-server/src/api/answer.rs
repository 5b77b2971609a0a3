use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use litemoe_text::{Finish, Piece, TokenLogprob};
use serde::Serialize;

use crate::generation::Usage;

/// Fields common to all chunks of a chat completion.
#[derive(Debug)]
pub(crate) struct Answer {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
}

/// A chat completion, or a chunk of a streamed one. It borrows the texts, because their JSON values would take many
/// times their memory.
#[derive(Debug, Serialize)]
pub(crate) struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    /// In streams only if requested, null except in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageFields>>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: usize,
    #[serde(flatten)]
    text: Text<'a>,
    /// `None` if not requested, or if the text has no tokens.
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Text<'a> {
    Message(Message<'a>),
    Delta(Message<'a>),
}

#[derive(Debug, Default, Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Logprobs<'a> {
    content: &'a [TokenLogprob],
    refusal: (),
}

#[derive(Debug, Serialize)]
struct UsageFields {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Answer {
    pub(crate) fn new(model: String, include_usage: bool) -> Self {
        let id = format!("chatcmpl-{:016x}", RandomState::new().build_hasher().finish());
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self { id, created, model, include_usage }
    }

    /// The whole chat completion.
    pub(crate) fn whole<'a>(&'a self, texts: &'a [Piece], used: Usage) -> Completion<'a> {
        let choice = |(index, text): (usize, &'a Piece)| Choice {
            index,
            text: Text::Message(Message::of_assistant(&text.text)),
            logprobs: logprobs(text),
            finish_reason: text.finish.map(Finish::reason),
        };
        let choices = texts.iter().enumerate().map(choice).collect();
        self.completion("chat.completion", choices, Some(Some(used.into())))
    }

    /// First chunk of a text's stream: the role.
    pub(crate) fn begin(&self, text: usize) -> Completion<'_> {
        self.choice(text, Message::of_assistant(""), None, None)
    }

    /// Chunks of a piece of a text, and its finish reason.
    pub(crate) fn piece<'a>(
        &'a self,
        text: usize,
        piece: &'a Piece,
    ) -> impl Iterator<Item = Completion<'a>> {
        let is_empty = piece.text.is_empty() && piece.logprobs.is_empty();
        let delta = Message { role: None, content: Some(&piece.text) };
        let next = (!is_empty).then(|| self.choice(text, delta, logprobs(piece), None));
        let ended = move |finish| self.choice(text, Message::default(), None, Some(finish));
        next.into_iter().chain(piece.finish.map(ended))
    }

    /// Token usage, if requested.
    pub(crate) fn end(&self, used: Usage) -> Option<Completion<'_>> {
        self.include_usage.then(|| self.chunk(Vec::new(), Some(used)))
    }

    fn choice<'a>(
        &'a self,
        index: usize,
        delta: Message<'a>,
        logprobs: Option<Logprobs<'a>>,
        finish: Option<Finish>,
    ) -> Completion<'a> {
        let (text, finish_reason) = (Text::Delta(delta), finish.map(Finish::reason));
        self.chunk(vec![Choice { index, text, logprobs, finish_reason }], None)
    }

    fn chunk<'a>(&'a self, choices: Vec<Choice<'a>>, used: Option<Usage>) -> Completion<'a> {
        let usage = self.include_usage.then(|| used.map(UsageFields::from));
        self.completion("chat.completion.chunk", choices, usage)
    }

    fn completion<'a>(
        &'a self,
        object: &'static str,
        choices: Vec<Choice<'a>>,
        usage: Option<Option<UsageFields>>,
    ) -> Completion<'a> {
        let Self { id, created, model, .. } = self;
        Completion { id, object, created: *created, model, choices, usage }
    }
}

impl<'a> Message<'a> {
    fn of_assistant(content: &'a str) -> Self {
        Self { role: Some("assistant"), content: Some(content) }
    }
}

impl From<Usage> for UsageFields {
    fn from(Usage { n_prompt, n_completion }: Usage) -> Self {
        Self {
            prompt_tokens: n_prompt,
            completion_tokens: n_completion,
            total_tokens: n_prompt + n_completion,
        }
    }
}

fn logprobs(piece: &Piece) -> Option<Logprobs<'_>> {
    let content = piece.logprobs.as_slice();
    (!content.is_empty()).then_some(Logprobs { content, refusal: () })
}

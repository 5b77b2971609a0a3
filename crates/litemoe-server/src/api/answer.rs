use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use litemoe_text::{Finish, Piece, TokenLogprob};
use serde::Serialize;

use crate::api::reply::Reply;
use crate::api::usage::UsageFields;
use crate::engine::Usage;

/// Fields common to all chunks of a chat completion.
#[derive(Debug)]
pub(crate) struct Answer {
    id: String,
    created: u64,
    model: String,
    /// Number of texts.
    n: usize,
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

impl Answer {
    pub(crate) fn new(model: String, n: usize, include_usage: bool) -> Self {
        let id = format!("chatcmpl-{:016x}", RandomState::new().build_hasher().finish());
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self { id, created, model, n, include_usage }
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

impl Reply for Answer {
    /// The role of each text.
    fn begin(&mut self) -> Vec<String> {
        let role = |text| json(&self.choice(text, Message::of_assistant(""), None, None));
        (0..self.n).map(role).collect()
    }

    fn prompt(&mut self, _: usize, _: &[TokenLogprob]) -> Vec<String> {
        Vec::new()
    }

    fn piece(&mut self, text: usize, piece: &Piece) -> Vec<String> {
        let is_empty = piece.text.is_empty() && piece.logprobs.is_empty();
        let delta = Message { role: None, content: Some(&piece.text) };
        let next = (!is_empty).then(|| self.choice(text, delta, logprobs(piece), None));
        let ended = |finish| self.choice(text, Message::default(), None, Some(finish));
        next.into_iter().chain(piece.finish.map(ended)).map(|chunk| json(&chunk)).collect()
    }

    fn end(&mut self, used: Usage) -> Vec<String> {
        let chunk = self.include_usage.then(|| self.chunk(Vec::new(), Some(used)));
        chunk.iter().map(json).collect()
    }

    fn whole(&self, _: &[Vec<TokenLogprob>], texts: &[Piece], used: Usage) -> String {
        let choices = texts.iter().enumerate().map(|(index, text)| Choice {
            index,
            text: Text::Message(Message::of_assistant(&text.text)),
            logprobs: logprobs(text),
            finish_reason: text.finish.map(Finish::reason),
        });
        json(&self.completion("chat.completion", choices.collect(), Some(Some(used.into()))))
    }
}

impl<'a> Message<'a> {
    fn of_assistant(content: &'a str) -> Self {
        Self { role: Some("assistant"), content: Some(content) }
    }
}

fn logprobs(piece: &Piece) -> Option<Logprobs<'_>> {
    let content = piece.logprobs.as_slice();
    (!content.is_empty()).then_some(Logprobs { content, refusal: () })
}

fn json(chunk: &Completion<'_>) -> String {
    serde_json::to_string(chunk).expect("texts and numbers")
}

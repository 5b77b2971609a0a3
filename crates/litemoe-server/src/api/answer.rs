use litemoe_text::{Finish, Piece, TokenLogprob};
use serde::Serialize;

use crate::api::calls::{self, CallFields, Calls, Part};
use crate::api::reply::Reply;
use crate::api::usage::UsageFields;
use crate::identity::{now, random_id};
use crate::usage::Usage;

/// Fields common to all chunks of a chat completion.
#[derive(Debug)]
pub(crate) struct Answer {
    id: String,
    created: u64,
    model: String,
    /// Number of texts.
    n: usize,
    include_usage: bool,
    /// `None` if the texts are content alone.
    calls: Option<Calls>,
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
    /// Null next to calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallFields<'a>>,
}

#[derive(Debug, Serialize)]
struct Logprobs<'a> {
    content: &'a [TokenLogprob],
    refusal: (),
}

impl Answer {
    pub(crate) fn new(model: String, n: usize, include_usage: bool, calls: Option<Calls>) -> Self {
        let (id, created) = (format!("chatcmpl-{}", random_id()), now());
        Self { id, created, model, n, include_usage, calls }
    }

    fn choice<'a>(
        &'a self,
        index: usize,
        delta: Message<'a>,
        logprobs: Option<Logprobs<'a>>,
        finish_reason: Option<&'static str>,
    ) -> Completion<'a> {
        let text = Text::Delta(delta);
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
        let parts = match &mut self.calls {
            Some(calls) => calls.push(text, &piece.text, piece.finish.is_some()),
            None if piece.text.is_empty() => Vec::new(),
            None => vec![Part::Content(piece.text.clone())],
        };
        let mut deltas: Vec<_> = parts.iter().flat_map(Message::deltas).collect();
        let mut logprobs = logprobs(piece);
        if deltas.is_empty() && logprobs.is_some() {
            deltas.push(Message::of_content(""));
        }
        // The first of them has the logprobs.
        let next = deltas.into_iter().map(|delta| self.choice(text, delta, logprobs.take(), None));
        let mut chunks: Vec<_> = next.map(|chunk| json(&chunk)).collect();
        if let Some(finish) = piece.finish {
            let reason = match &self.calls {
                Some(calls) => calls.reason(text, finish),
                None => finish.reason(),
            };
            chunks.push(json(&self.choice(text, Message::default(), None, Some(reason))));
        }
        chunks
    }

    fn end(&mut self, used: Usage) -> Vec<String> {
        let chunk = self.include_usage.then(|| self.chunk(Vec::new(), Some(used)));
        chunk.iter().map(json).collect()
    }

    fn whole(&self, _: &[Vec<TokenLogprob>], texts: &[Piece], used: Usage) -> String {
        let parsed: Option<Vec<_>> = self
            .calls
            .as_ref()
            .map(|calls| texts.iter().map(|text| calls.message(&text.text)).collect());
        let choices = texts.iter().enumerate().map(|(index, text)| {
            let message = match parsed.as_ref().map(|parsed| &parsed[index]) {
                Some(parsed) => Message::of_calls(parsed),
                None => Message::of_assistant(&text.text),
            };
            let n_calls = message.tool_calls.len();
            let finish_reason = text.finish.map(|finish: Finish| calls::reason(n_calls, finish));
            Choice { index, text: Text::Message(message), logprobs: logprobs(text), finish_reason }
        });
        json(&self.completion("chat.completion", choices.collect(), Some(Some(used.into()))))
    }
}

impl<'a> Message<'a> {
    fn of_content(content: &'a str) -> Self {
        Self { content: Some(Some(content)), ..Self::default() }
    }

    fn of_assistant(content: &'a str) -> Self {
        Self { role: Some("assistant"), ..Self::of_content(content) }
    }

    /// A whole message that may have calls.
    fn of_calls(message: &'a calls::Message) -> Self {
        let calls::Message { content, calls } = message;
        let has_content = calls.is_empty() || !content.is_empty();
        Self {
            role: Some("assistant"),
            content: Some(has_content.then_some(content)),
            tool_calls: calls.iter().map(|call| call.whole()).collect(),
        }
    }

    /// The deltas of a part.
    fn deltas(part: &'a Part) -> Vec<Self> {
        match part {
            Part::Content(content) => vec![Self::of_content(content)],
            Part::Call(index, call) => {
                let delta = |call| Self { tool_calls: vec![call], ..Self::default() };
                call.deltas(*index).map(delta).into()
            }
        }
    }
}

fn logprobs(piece: &Piece) -> Option<Logprobs<'_>> {
    let content = piece.logprobs.as_slice();
    (!content.is_empty()).then_some(Logprobs { content, refusal: () })
}

fn json(chunk: &Completion<'_>) -> String {
    serde_json::to_string(chunk).expect("texts and numbers")
}

use std::sync::Arc;

use litemoe_text::{CallFormat, CallParser, Finish, Parsed, ToolCall};
use serde::Serialize;

use crate::identity::random_id;

/// Parser of the tool calls in the texts of an answer.
#[derive(Debug)]
pub(crate) struct Calls {
    format: Arc<CallFormat>,
    names: Arc<[String]>,
    /// One for each streamed text.
    streams: Vec<CallParser>,
}

/// A part of a streamed text.
#[derive(Debug)]
pub(crate) enum Part {
    Content(String),
    /// A call, and its number in the text.
    Call(usize, IdentifiedCall),
}

/// A call and its id.
#[derive(Debug)]
pub(crate) struct IdentifiedCall {
    pub(crate) id: String,
    pub(crate) call: ToolCall,
}

/// Content and calls of a whole text.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) content: String,
    pub(crate) calls: Vec<IdentifiedCall>,
}

impl Calls {
    /// For `n` texts that may call tools of these names.
    pub(crate) fn new(format: Arc<CallFormat>, names: Arc<[String]>, n: usize) -> Self {
        let streams = (0..n).map(|_| format.parser(names.clone())).collect();
        Self { format, names, streams }
    }

    /// Adds a piece of a streamed text.
    pub(crate) fn push(&mut self, text: usize, piece: &str, is_last: bool) -> Vec<Part> {
        let parser = &mut self.streams[text];
        let n_before = parser.n_calls();
        let mut parsed = parser.push(piece);
        if is_last {
            parsed.extend(parser.finish());
        }
        let mut numbers = n_before..;
        let part = |parsed| match parsed {
            Parsed::Text(text) => Part::Content(text),
            Parsed::Call(call) => {
                Part::Call(numbers.next().unwrap_or_default(), self.format.identified(call))
            }
        };
        parsed.into_iter().map(part).collect()
    }

    /// Finish reason of a streamed text.
    pub(crate) fn reason(&self, text: usize, finish: Finish) -> &'static str {
        reason(self.streams[text].n_calls(), finish)
    }

    /// Parses a whole text.
    pub(crate) fn message(&self, text: &str) -> Message {
        let mut parser = self.format.parser(self.names.clone());
        let mut message = Message::default();
        for parsed in parser.push(text).into_iter().chain(parser.finish()) {
            match parsed {
                Parsed::Text(text) => message.content += &text,
                Parsed::Call(call) => message.calls.push(self.format.identified(call)),
            }
        }
        message
    }
}

/// OpenAI's `finish_reason`: `tool_calls` of an answer that ends after calls.
pub(crate) fn reason(n_calls: usize, finish: Finish) -> &'static str {
    match finish {
        Finish::EndToken | Finish::StopString if n_calls > 0 => "tool_calls",
        finish => finish.reason(),
    }
}

trait Identify {
    fn identified(&self, call: ToolCall) -> IdentifiedCall;
}

impl Identify for CallFormat {
    /// The call with a random id, which the chat template takes in a later request.
    fn identified(&self, call: ToolCall) -> IdentifiedCall {
        let digits = random_id();
        let id = match self.has_short_ids() {
            true => digits[..9].to_owned(),
            false => format!("call_{digits}"),
        };
        IdentifiedCall { id, call }
    }
}

/// A call as OpenAI's API writes it; streams write it in two parts.
#[derive(Debug, Serialize)]
pub(crate) struct CallFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionFields<'a>,
}

#[derive(Debug, Serialize)]
struct FunctionFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl IdentifiedCall {
    pub(crate) fn whole(&self) -> CallFields<'_> {
        CallFields {
            index: None,
            id: Some(&self.id),
            kind: Some("function"),
            function: FunctionFields {
                name: Some(&self.call.name),
                arguments: &self.call.arguments,
            },
        }
    }

    /// The deltas of a stream: id, type and name, then the arguments.
    pub(crate) fn deltas(&self, index: usize) -> [CallFields<'_>; 2] {
        let name = FunctionFields { name: Some(&self.call.name), arguments: "" };
        let arguments = FunctionFields { name: None, arguments: &self.call.arguments };
        let index = Some(index);
        [
            CallFields { index, id: Some(&self.id), kind: Some("function"), function: name },
            CallFields { index, id: None, kind: None, function: arguments },
        ]
    }
}

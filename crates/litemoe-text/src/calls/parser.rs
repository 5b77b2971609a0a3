use std::sync::Arc;

use super::format::{Body, CallFormat, JsonBody, NameBody, ToolCall};
use super::json_scan::JsonScan;

/// Maximum bytes of a tool's name.
const MAX_NAME: usize = 256;

/// Part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Text of the message.
    Text(String),
    /// A whole tool call.
    Call(ToolCall),
}

/// Streamed parser of an answer's text into content and tool calls. Text that may belong to a call is held back; what
/// turns out not to be one is content, without special tokens.
#[derive(Debug, Clone)]
pub struct CallParser {
    format: Arc<CallFormat>,
    /// Names of the tools: calls that nothing announces must be of one of these.
    names: Arc<[String]>,
    state: State,
    /// Text that is not emitted yet.
    held: String,
    n_calls: usize,
    /// Whether white space at the start of the next content is none, because it is next to a call.
    trims: bool,
    scan: JsonScan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Content.
    Text,
    /// A call may begin at this offset of the held text.
    Begin(usize),
    /// After a call.
    After,
}

/// What to do next with the held text.
enum Step {
    /// More text is needed.
    Wait,
    /// Go on.
    Next,
}

impl CallFormat {
    /// Starts to parse an answer; `names` are those of the tools.
    pub fn parser(self: &Arc<Self>, names: Arc<[String]>) -> CallParser {
        let state = if self.trigger().is_empty() { State::Begin(0) } else { State::Text };
        CallParser {
            format: self.clone(),
            names,
            state,
            held: String::new(),
            n_calls: 0,
            trims: false,
            scan: JsonScan::default(),
        }
    }
}

impl CallParser {
    /// Number of calls so far.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Adds text and returns what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Parsed> {
        self.held += text;
        let mut parsed = Vec::new();
        while let Step::Next = self.step(&mut parsed) {}
        parsed
    }

    /// The rest, if there is no more text.
    pub fn finish(&mut self) -> Vec<Parsed> {
        let mut parsed = Vec::new();
        let held = std::mem::take(&mut self.held);
        let is_closing = self.state == State::After && self.is_closing(held.trim());
        if !is_closing {
            self.emit(&held, &mut parsed);
        }
        self.state = State::Text;
        parsed
    }

    fn step(&mut self, parsed: &mut Vec<Parsed>) -> Step {
        match self.state {
            State::Text => self.text(parsed),
            State::Begin(at) => self.begin(at, parsed),
            State::After => self.after(),
        }
    }

    /// Looks for the beginning of calls.
    fn text(&mut self, parsed: &mut Vec<Parsed>) -> Step {
        let format = self.format.clone();
        let trigger = format.trigger();
        let found = if trigger.is_empty() { None } else { self.held.find(trigger) };
        if let Some(at) = found {
            let rest = self.held.split_off(self.held[..at].trim_end().len());
            let text = std::mem::replace(&mut self.held, rest);
            self.emit(&text, parsed);
            let space = self.held.len() - self.held.trim_start().len();
            self.start_at(space + trigger.len());
            return Step::Next;
        }
        let n_passed = self.held.len() - n_begun(&self.held, trigger);
        let n_passed = self.held[..n_passed].trim_end().len();
        let rest = self.held.split_off(n_passed);
        let text = std::mem::replace(&mut self.held, rest);
        self.emit(&text, parsed);
        Step::Wait
    }

    fn start_at(&mut self, at: usize) {
        self.state = State::Begin(at);
        self.scan = JsonScan::default();
    }

    /// Parses a call that may begin at an offset of the held text.
    fn begin(&mut self, at: usize, parsed: &mut Vec<Parsed>) -> Step {
        let format = self.format.clone();
        let call = match &format.body {
            Body::Json(body) => self.json_call(at, body),
            Body::Named(body) => self.named_call(at, body),
        };
        match call {
            Found::Call(call, end) => {
                self.held.drain(..end);
                self.n_calls += 1;
                self.trims = true;
                self.state = State::After;
                parsed.push(Parsed::Call(call));
                Step::Next
            }
            Found::Incomplete => Step::Wait,
            Found::None => {
                // What announced it is text; another may follow.
                let rest = self.held.split_off(at);
                let text = std::mem::replace(&mut self.held, rest);
                self.emit(&text, parsed);
                self.state = State::Text;
                Step::Next
            }
        }
    }

    fn json_call(&mut self, at: usize, body: &JsonBody) -> Found {
        let rest = &self.held[at..];
        let mut begin = rest.len() - rest.trim_start().len();
        if body.is_list
            && self.is_first(at)
            && let Some(items) = rest[begin..].strip_prefix('[')
        {
            begin = rest.len() - items.trim_start().len();
        }
        if rest[begin..].is_empty() {
            return Found::Incomplete;
        }
        if !rest[begin..].starts_with('{') {
            return Found::None;
        }
        let Some(len) = self.scan.end(&rest[begin..]) else { return Found::Incomplete };
        match body.call(&rest[begin..begin + len]).filter(|call| self.is_known(call)) {
            Some(call) => Found::Call(call, at + begin + len),
            None => Found::None,
        }
    }

    /// Whether a call at this offset of the held text is the first of its list.
    fn is_first(&self, at: usize) -> bool {
        self.held[..at].trim_start() == self.format.trigger()
    }

    fn named_call(&mut self, at: usize, body: &NameBody) -> Found {
        let rest = &self.held[at..];
        let Some((name, mut tail)) = rest.split_once(body.middle_text()) else {
            return if rest.len() > MAX_NAME { Found::None } else { Found::Incomplete };
        };
        if let Some(after_id) = &body.after_id {
            match tail.split_once(&**after_id) {
                Some((_, after)) => tail = after,
                None if tail.len() > MAX_NAME => return Found::None,
                None => return Found::Incomplete,
            }
        }
        let name = name.trim();
        if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_whitespace) {
            return Found::None;
        }
        let tail = tail.trim_start();
        if tail.is_empty() {
            return Found::Incomplete;
        }
        if !tail.starts_with('{') {
            return Found::None;
        }
        let Some(len) = self.scan.end(tail) else { return Found::Incomplete };
        let call = ToolCall { name: name.to_owned(), arguments: tail[..len].to_owned() };
        match call.has_object() {
            true => Found::Call(call, self.held.len() - tail.len() + len),
            false => Found::None,
        }
    }

    /// A call that nothing announces must be of a known tool.
    fn is_known(&self, call: &ToolCall) -> bool {
        !self.format.trigger().is_empty() || self.names.contains(&call.name)
    }

    /// Finds out what follows a call: the end of the calls, another call, or text.
    fn after(&mut self) -> Step {
        let trimmed = self.held.trim_start();
        let space = self.held.len() - trimmed.len();
        let format = self.format.clone();
        let end = format.end();
        let between = format.between.as_deref().map_or("", str::trim);
        let (list_end, comma) = match &format.body {
            Body::Json(JsonBody { is_list: true, .. }) => ("]", ","),
            _ => ("", ""),
        };
        let may_follow = [end, list_end, between, comma];
        let found =
            may_follow.into_iter().find(|text| !text.is_empty() && trimmed.starts_with(text));
        if let Some(text) = found {
            let at = space + text.len();
            if text == between || text == comma {
                self.start_at(at);
                return Step::Next;
            }
            self.held.drain(..at);
            // The end of the calls may follow that of their list.
            self.state = if text == end { State::Text } else { State::After };
            return Step::Next;
        }
        if may_follow.into_iter().any(|text| text.starts_with(trimmed)) {
            return Step::Wait;
        }
        // Calls without anything between them.
        let is_next = self.format.between.as_deref().is_some_and(|b| b.trim().is_empty())
            && matches!(self.format.body, Body::Json(_))
            && trimmed.starts_with('{');
        match is_next {
            true => self.start_at(space),
            false => self.state = State::Text,
        }
        Step::Next
    }

    /// Whether a text may be the rest of the calls' end.
    fn is_closing(&self, text: &str) -> bool {
        let end = self.format.end();
        end.starts_with(text) || end.ends_with(text)
    }

    /// Content, without special tokens. White space after calls is none.
    fn emit(&mut self, text: &str, parsed: &mut Vec<Parsed>) {
        let mut text = text.to_owned();
        for special in self.format.special.values() {
            text = text.replace(special.as_str(), "");
        }
        if self.trims {
            text = text.trim_start().to_owned();
        }
        if !text.is_empty() {
            self.trims = false;
            parsed.push(Parsed::Text(text));
        }
    }
}

/// Result of looking for a call.
enum Found {
    /// A call, and the offset after it.
    Call(ToolCall, usize),
    Incomplete,
    None,
}

/// Number of bytes at the end of a text that may begin `expected`.
fn n_begun(text: &str, expected: &str) -> usize {
    let ends = expected.char_indices().map(|(end, _)| end);
    ends.rev().find(|&end| text.ends_with(&expected[..end])).unwrap_or(0)
}

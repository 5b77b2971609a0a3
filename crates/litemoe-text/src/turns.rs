//! Tokens of conversations, with the assistant's turns in the loss.

use std::ops::Range;

use litemoe_core::Sequence;
use minijinja::value::{Serde, Value};
use serde_json::Map;
use tokenizers::Encoding;

use crate::conversation::{content, role};
use crate::encode::n_prompt;
use crate::{ChatTemplate, Conversation, Message, TextError, Tokenizer, assistant_mask};

/// Number of turns above which a conversation's length is found before its turns.
const MANY_TURNS: usize = 16;

type JsonMessage = Map<String, serde_json::Value>;

impl Tokenizer {
    /// Tokenizes a conversation, up to the end of the last turn in the loss.
    pub(crate) fn encode_conversation(
        &self,
        conversation: &Conversation,
    ) -> Result<Sequence, TextError> {
        if let Some(start) = self.decoder_start() {
            let completion = match (conversation.loss_turns().len(), conversation.completion()) {
                (1, Some(completion)) => completion,
                (1, None) => return Err(TextError::NotAPair { given: "a tool call" }),
                _ => return Err(TextError::NotAPair { given: "several turns in the loss" }),
            };
            let encoder = self.encode_conversation_prompt(conversation)?;
            return self.encode_decoder(encoder, completion, start);
        }
        let Some(template) = self.template() else {
            return match plain_pair(conversation) {
                Some((prompt, completion)) => self.encode_plain(prompt, completion),
                None => Err(no_template(conversation, conversation.messages())),
            };
        };
        let rendered = Rendered::new(template, conversation)?;
        let encoding = self.encoding(&rendered.whole, false)?;
        let turns = match rendered.blocks()? {
            blocks if blocks.is_empty() => rendered.turns_by_prefix(self, &encoding)?,
            blocks => blocks.into_iter().filter_map(|block| tokens_in(&encoding, &block)).collect(),
        };
        let n_tokens = turns.iter().map(|turn| turn.end).max().unwrap_or(0);
        let mut completion = vec![false; n_tokens];
        for turn in turns {
            completion[turn].fill(true);
        }
        Ok(Sequence { tokens: encoding.get_ids()[..n_tokens].to_vec(), completion, encoder: None })
    }

    /// Whether a conversation of many turns has more than `max_tokens` tokens. Only its last turn is found, because
    /// finding all takes time quadratic in their number; for few turns this is not worth while, and false.
    pub(crate) fn is_far_too_long(
        &self,
        conversation: &Conversation,
        max_tokens: usize,
    ) -> Result<bool, TextError> {
        let turns = conversation.loss_turns();
        let (Some(template), None) = (self.template(), self.decoder_start()) else {
            return Ok(false);
        };
        let Some(&last) = turns.last().filter(|_| turns.len() > MANY_TURNS) else {
            return Ok(false);
        };
        let rendered = Rendered::new(template, conversation)?;
        let encoding = self.encoding(&rendered.whole, false)?;
        if encoding.len() <= max_tokens || !rendered.blocks()?.is_empty() {
            return Ok(false);
        }
        Ok(rendered.turn_by_prefix(self, &encoding, last)?.end > max_tokens)
    }

    /// Tokenizes what precedes the last turn in the loss.
    pub(crate) fn encode_conversation_prompt(
        &self,
        conversation: &Conversation,
    ) -> Result<Vec<u32>, TextError> {
        let messages = conversation.prompt();
        match (self.template(), messages) {
            (Some(template), _) => {
                let rendered = render(template, conversation, messages, true, false)?;
                self.encode_text(&rendered)
            }
            (None, [message]) if role(message) == "user" && is_plain(conversation) => {
                self.encode_prompt(&[Message::user(content(message).unwrap_or_default())])
            }
            (None, _) => Err(no_template(conversation, messages)),
        }
    }
}

/// A rendered conversation.
struct Rendered<'a> {
    template: &'a ChatTemplate,
    conversation: &'a Conversation,
    whole: String,
}

impl<'a> Rendered<'a> {
    fn new(template: &'a ChatTemplate, conversation: &'a Conversation) -> Result<Self, TextError> {
        let whole = render(template, conversation, conversation.messages(), false, false)?;
        if conversation.documents().is_some() {
            let without = conversation.without_documents();
            // A template may require them, and fail without.
            let bare = render(template, &without, conversation.messages(), false, false);
            if bare.is_ok_and(|bare| bare == whole) {
                return Err(TextError::NotRendered { what: "documents" });
            }
        }
        Ok(Self { template, conversation, whole })
    }

    fn render(&self, messages: &[JsonMessage], is_prompt: bool) -> Result<String, TextError> {
        render(self.template, self.conversation, messages, is_prompt, false)
    }

    /// Byte ranges of the `generation` blocks in the loss; none if the template has no such blocks.
    fn blocks(&self) -> Result<Vec<Range<usize>>, TextError> {
        let messages = self.conversation.messages();
        let marked = render(self.template, self.conversation, messages, false, true)?;
        if marked == self.whole {
            return Ok(Vec::new());
        }
        let blocks = assistant_mask::unmarked(&marked, &self.whole)?;
        if self.conversation.assistant_in_loss().all(|covered| covered) {
            return Ok(blocks);
        }
        let turns = self.conversation.n_assistant();
        if blocks.len() != turns {
            return Err(TextError::GenerationBlocks { blocks: blocks.len(), turns });
        }
        let chosen = blocks.into_iter().zip(self.conversation.assistant_in_loss());
        Ok(chosen.filter(|(_, covered)| *covered).map(|(block, _)| block).collect())
    }

    /// Tokens of the turns in the loss, by rendering the conversation up to each.
    fn turns_by_prefix(
        &self,
        tokenizer: &Tokenizer,
        encoding: &Encoding,
    ) -> Result<Vec<Range<usize>>, TextError> {
        let turns = self.conversation.loss_turns();
        turns.into_iter().map(|turn| self.turn_by_prefix(tokenizer, encoding, turn)).collect()
    }

    fn turn_by_prefix(
        &self,
        tokenizer: &Tokenizer,
        encoding: &Encoding,
        turn: usize,
    ) -> Result<Range<usize>, TextError> {
        let messages = self.conversation.messages();
        let prefix = self.render(&messages[..turn], true)?;
        if !self.whole.starts_with(&prefix) {
            return Err(TextError::NotAPrefix { prompt: prefix, whole: self.whole.clone() });
        }
        let calls = messages[turn].get("tool_calls").and_then(serde_json::Value::as_array);
        let is_call = calls.is_some_and(|calls| !calls.is_empty());
        let start = n_prompt(&tokenizer.encode_text(&prefix)?, encoding, prefix.len());
        let end = match is_call {
            true => self.call_end(tokenizer, encoding, turn, prefix.len())?,
            false => {
                let content_end = self.content_end(turn, prefix.len())?;
                let closing = content_end..self.next_message(turn, prefix.len())?;
                let is_special = |id| tokenizer.is_special(id);
                tokens_of(encoding, &closing, is_special).find(|&token| token >= start)
            }
        };
        match end.filter(|&end| end >= start) {
            Some(end) => Ok(start..end + 1),
            None => Err(TextError::NoEndToken {
                reason: format!("no special token follows message {turn} in {:?}", self.whole),
            }),
        }
    }

    /// Token that ends a message with tool calls, whose rendering begins at byte `start`: the last end token of the
    /// conversation up to the message, if that begins the whole, or else the last before the next message. Calls may
    /// contain other special tokens, such as one that begins them.
    fn call_end(
        &self,
        tokenizer: &Tokenizer,
        encoding: &Encoding,
        turn: usize,
        start: usize,
    ) -> Result<Option<usize>, TextError> {
        let last_in = |end: usize| {
            let is_end = |id| tokenizer.end_ids().contains(&id);
            tokens_of(encoding, &(start..end), is_end).last()
        };
        // Templates may refuse, or render otherwise, a conversation that ends with a call.
        let until = self.render(&self.conversation.messages()[..=turn], false).ok();
        let inside = until.filter(|until| self.whole.starts_with(&**until));
        match inside.and_then(|until| last_in(until.len())) {
            Some(end) => Ok(Some(end)),
            None => Ok(last_in(self.next_message(turn, start)?)),
        }
    }

    /// Byte offset of the end of a message's content; its rendering begins at `start`.
    fn content_end(&self, turn: usize, start: usize) -> Result<usize, TextError> {
        let mark = self.absent_mark();
        let mut messages = self.conversation.messages().to_vec();
        messages[turn].insert("content".to_owned(), mark.to_string().into());
        let marked = self.render(&messages, false)?;
        let after = marked.get(start..).and_then(|rest| rest.split_once(mark));
        let end = after.and_then(|(_, after)| self.whole.strip_suffix(after)).map(str::len);
        end.filter(|&end| end >= start)
            .ok_or_else(|| TextError::NoCompletion { whole: self.whole.clone() })
    }

    /// Byte offset at which the content or the first call of the message after `turn` begins, whose own rendering begins
    /// at `start`; messages that the template omits are skipped. The end of the text after the last message.
    fn next_message(&self, turn: usize, start: usize) -> Result<usize, TextError> {
        let mut messages = self.conversation.messages().to_vec();
        if turn + 1 == messages.len() {
            return Ok(self.whole.len());
        }
        let mark = self.absent_mark();
        for message in &mut messages[turn + 1..] {
            let is_call = mark_call(message, mark);
            if !is_call || content(message).is_some_and(|text| !text.is_empty()) {
                message.insert("content".to_owned(), mark.to_string().into());
            }
        }
        let marked = self.render(&messages, false)?;
        let next = match marked.get(start..).and_then(|rest| rest.find(mark)) {
            Some(at) => {
                Some(start + at).filter(|&next| self.whole.get(..next) == Some(&marked[..next]))
            }
            None => Some(self.whole.len()).filter(|_| marked == self.whole),
        };
        next.ok_or_else(|| TextError::NoEndToken {
            reason: format!("where message {} begins is not found in {:?}", turn + 1, self.whole),
        })
    }

    /// A private-use character that the conversation does not have.
    fn absent_mark(&self) -> char {
        ('\u{e000}'..='\u{f8ff}').find(|&mark| !self.whole.contains(mark)).unwrap_or('\u{e000}')
    }
}

/// Replaces the name of a message's first tool call by a mark; returns whether there is one.
fn mark_call(message: &mut JsonMessage, mark: char) -> bool {
    let call = message.get_mut("tool_calls").and_then(|calls| calls.get_mut(0));
    let call = call.and_then(serde_json::Value::as_object_mut);
    let Some(call) = call else { return false };
    let called = match call.get("function") {
        Some(_) => call.get_mut("function").and_then(serde_json::Value::as_object_mut),
        None => Some(call),
    };
    called.is_some_and(|called| called.insert("name".to_owned(), mark.to_string().into()).is_some())
}

/// Tokens in a byte range whose id `is_chosen`, in order.
fn tokens_of(
    encoding: &Encoding,
    bytes: &Range<usize>,
    is_chosen: impl Fn(u32) -> bool,
) -> impl Iterator<Item = usize> {
    let tokens = encoding.get_ids().iter().zip(encoding.get_offsets()).enumerate();
    tokens
        .filter(move |&(_, (&id, &(start, end)))| {
            end > bytes.start && start < bytes.end && is_chosen(id)
        })
        .map(|(token, _)| token)
}

/// Tokens of a byte range.
fn tokens_in(encoding: &Encoding, bytes: &Range<usize>) -> Option<Range<usize>> {
    let offsets = encoding.get_offsets();
    let is_inside = |&(start, end): &(usize, usize)| end > bytes.start && start < bytes.end;
    Some(offsets.iter().position(is_inside)?..offsets.iter().rposition(is_inside)? + 1)
}

/// Renders messages with a conversation's tools and documents.
fn render(
    template: &ChatTemplate,
    conversation: &Conversation,
    messages: &[JsonMessage],
    is_prompt: bool,
    marked: bool,
) -> Result<String, TextError> {
    let list = |items: Option<&[serde_json::Value]>| {
        items.map_or(Value::from(()), |items| Value::from(Serde(items)))
    };
    let variables = [
        ("tools", list(conversation.tools())),
        ("documents", list(conversation.documents())),
        ("add_generation_prompt", Value::from(is_prompt)),
        (assistant_mask::MARKED, Value::from(marked)),
    ];
    template.render_objects(messages, variables)
}

/// Prompt and completion of a conversation of a user's and the assistant's message, and nothing else.
fn plain_pair(conversation: &Conversation) -> Option<(&str, &str)> {
    match conversation.messages() {
        [user, assistant]
            if role(user) == "user" && role(assistant) == "assistant" && is_plain(conversation) =>
        {
            Some((content(user)?, content(assistant)?))
        }
        _ => None,
    }
}

/// Whether a conversation has only messages.
fn is_plain(conversation: &Conversation) -> bool {
    conversation.tools().is_none() && conversation.documents().is_none()
}

fn no_template(conversation: &Conversation, messages: &[JsonMessage]) -> TextError {
    let others = [("tools", conversation.tools()), ("documents", conversation.documents())];
    let others = others.into_iter().filter(|(_, items)| items.is_some()).map(|(name, _)| name);
    TextError::NoTemplate {
        given: messages.iter().map(role).chain(others).collect::<Vec<_>>().join(", "),
    }
}

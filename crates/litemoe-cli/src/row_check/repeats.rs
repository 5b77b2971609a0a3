use std::collections::HashMap;
use std::collections::hash_map::Entry;

use litemoe_text::{Conversation, Row, RowContent, RowFile};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::counted;

/// Tools and documents of a conversation.
type Context<'a> = [Option<&'a [Value]>; 2];

fn context(chat: &Conversation) -> Context<'_> {
    [chat.tools(), chat.documents()]
}

/// What precedes a row's last completion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Prompt<'a> {
    Text(&'a str),
    /// Messages, tools and documents.
    Messages(&'a [Map<String, Value>], Context<'a>),
}

impl<'a> Prompt<'a> {
    /// The prompt of a row; one user's message is the text that a pair has. `None` for running text.
    pub(super) fn of(row: &'a Row) -> Option<Self> {
        match &row.content {
            RowContent::Pair { prompt, .. } => Some(Self::Text(prompt)),
            RowContent::Conversation(chat) => Some(match (chat.prompt(), context(chat)) {
                ([message], [None, None]) if is_plain(message, "user") => {
                    Self::Text(content(message))
                }
                (messages, context) => Self::Messages(messages, context),
            }),
            RowContent::Text(_) => None,
        }
    }
}

/// A row's content; a conversation of a user's and the assistant's message is the pair.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Content<'a> {
    Pair(&'a str, &'a str),
    Other(&'a RowContent),
}

impl<'a> Content<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        match &row.content {
            RowContent::Pair { prompt, completion } => Self::Pair(prompt, completion),
            RowContent::Conversation(chat) => match (chat.messages(), context(chat)) {
                ([prompt, answer], [None, None])
                    if is_plain(prompt, "user") && is_plain(answer, "assistant") =>
                {
                    Self::Pair(content(prompt), content(answer))
                }
                _ => Self::Other(&row.content),
            },
            RowContent::Text(_) => Self::Other(&row.content),
        }
    }
}

/// Whether a message has this role, a text and nothing else.
fn is_plain(message: &Map<String, Value>, role: &str) -> bool {
    let is_text = message.get("content").is_some_and(Value::is_string);
    message.len() == 2 && is_text && message.get("role").is_some_and(|found| found == role)
}

fn content(message: &Map<String, Value>) -> &str {
    message.get("content").and_then(Value::as_str).unwrap_or_default()
}

/// Rows of a file that repeat earlier ones.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Repeats {
    /// Rows that equal an earlier one.
    pub(crate) duplicates: usize,
    /// Lines of the first of them and of the row that it equals.
    pub(crate) first_duplicate: Option<[usize; 2]>,
    /// Rows that have an earlier one's prompt but another completion.
    pub(crate) conflicts: usize,
    /// Lines of the first of them and of the row whose prompt it has.
    pub(crate) first_conflict: Option<[usize; 2]>,
}

impl Repeats {
    pub(crate) fn of(file: &RowFile) -> Self {
        let mut repeats = Self::default();
        let (mut contents, mut prompts) = (HashMap::new(), HashMap::new());
        for (row, &line) in file.rows.iter().zip(&file.lines) {
            match contents.entry(Content::of(row)) {
                Entry::Occupied(earlier) => {
                    repeats.duplicates += 1;
                    repeats.first_duplicate.get_or_insert([line, *earlier.get()]);
                    continue;
                }
                Entry::Vacant(entry) => entry.insert(line),
            };
            let Some(prompt) = Prompt::of(row) else { continue };
            match prompts.entry(prompt) {
                Entry::Occupied(earlier) => {
                    repeats.conflicts += 1;
                    repeats.first_conflict.get_or_insert([line, *earlier.get()]);
                }
                Entry::Vacant(entry) => {
                    entry.insert(line);
                }
            }
        }
        repeats
    }

    pub(super) fn warnings(&self, path: &str) -> Vec<String> {
        let duplicate = self.first_duplicate.map(|[line, earlier]| {
            let n = counted(self.duplicates, "row is a duplicate", "rows are duplicates");
            format!("{path}: {n}; the first is line {line}, as line {earlier}")
        });
        let conflict = self.first_conflict.map(|[line, earlier]| {
            let n = counted(self.conflicts, "row has", "rows have");
            format!(
                "{path}: {n} an earlier row's prompt, but another completion; the first is line {line}, \
                 with the prompt of line {earlier}"
            )
        });
        duplicate.into_iter().chain(conflict).collect()
    }
}

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use litemoe_text::{Row, RowContent, RowFile};
use serde::Serialize;
use serde_json::{Map, Value};

/// What precedes a row's last completion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Prompt<'a> {
    Text(&'a str),
    Messages(&'a [Map<String, Value>], Option<&'a [Value]>),
}

impl<'a> Prompt<'a> {
    /// `None` for running text.
    pub(super) fn of(row: &'a Row) -> Option<Self> {
        match &row.content {
            RowContent::Pair { prompt, .. } => Some(Self::Text(prompt)),
            RowContent::Conversation(chat) => Some(Self::Messages(chat.prompt(), chat.tools())),
            RowContent::Text(_) => None,
        }
    }
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
            match contents.entry(&row.content) {
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
            let n = self.duplicates;
            format!("{path}: {n} rows are duplicates; the first is line {line}, as line {earlier}")
        });
        let conflict = self.first_conflict.map(|[line, earlier]| {
            let n = self.conflicts;
            format!(
                "{path}: {n} rows have an earlier row's prompt, but another completion; the first is line {line}, \
                 with the prompt of line {earlier}"
            )
        });
        duplicate.into_iter().chain(conflict).collect()
    }
}

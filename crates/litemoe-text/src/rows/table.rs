//! Rows of CSV.

use std::collections::HashSet;
use std::iter;

use csv::{Position, ReaderBuilder};

use super::object::Object;
use super::{RowError, RowShape};

/// Names of the columns: the first line, without white space around them.
pub(super) fn header(text: &str) -> Vec<String> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let names = reader.headers().map(|header| header.iter().map(|name| name.trim().to_owned()));
    names.map(Iterator::collect).unwrap_or_default()
}

/// Rows of CSV whose header is `names`, each with its line.
pub(super) fn records<'t>(
    text: &'t str,
    names: &'t [String],
) -> Box<dyn Iterator<Item = (usize, Result<Object<'t>, RowError>)> + 't> {
    let syntax = |reason: String| Err(RowError::Syntax { reason });
    let mut before = HashSet::new();
    if let Some(name) = names.iter().find(|name| !before.insert(*name)) {
        let reason = format!("the header has the column `{name}` twice");
        return Box::new(iter::once((1, syntax(reason))));
    }
    if let Some((line, problem)) = broken_quotes(text) {
        let reason = format!("a quoted cell {problem}; a quote in a quoted cell is written twice");
        return Box::new(iter::once((line, syntax(reason))));
    }
    let (mut lines, mut counted) = (1, 0);
    // A record's position may be that of the blank lines before it.
    let mut line = move |position: Option<&Position>| {
        let rest = position.and_then(|at| text.get(at.byte() as usize..)).unwrap_or(text);
        let begins = text.len() - rest.trim_start_matches(['\r', '\n']).len();
        lines += text.get(counted..begins).unwrap_or_default().matches('\n').count();
        counted = counted.max(begins);
        lines
    };
    let records = ReaderBuilder::new().from_reader(text.as_bytes()).into_records();
    Box::new(records.map(move |record| match record {
        Ok(record) => {
            let cells = names.iter().map(String::as_str).zip(record.iter().map(str::to_owned));
            (line(record.position()), Ok(Object::record(cells)))
        }
        Err(error) => (line(error.position()), syntax(reason(&error))),
    }))
}

/// What is wrong with the first quoted cell that the reader would misunderstand, and the line at which it begins.
fn broken_quotes(text: &str) -> Option<(usize, &'static str)> {
    let (mut line, mut is_start, mut characters) = (1, true, text.chars().peekable());
    while let Some(character) = characters.next() {
        if is_start && character == '"' {
            let begins = line;
            loop {
                match characters.next() {
                    None => return Some((begins, "is not closed")),
                    Some('"') if characters.next_if_eq(&'"').is_none() => break,
                    inside => line += usize::from(inside == Some('\n')),
                }
            }
            if characters.peek().is_some_and(|next| !",\r\n".contains(*next)) {
                return Some((begins, "goes on after its closing quote"));
            }
        }
        line += usize::from(character == '\n');
        is_start = matches!(character, ',' | '\r' | '\n');
    }
    None
}

fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the line has {len} cells, but the header has {expected_len}")
        }
        _ => error.to_string(),
    }
}

/// What a first line is as a header of CSV.
pub(super) enum Header {
    /// The columns of rows.
    Rows,
    /// Columns that are nearly those of rows.
    Refused(RowError),
    /// No header.
    Unknown,
}

/// Whether names are the columns of rows.
pub(super) fn recognise(names: &[String]) -> Header {
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    match RowShape::of(&keys) {
        Ok(_) => Header::Rows,
        Err(RowError::UnknownShape { advice: None, .. }) => Header::Unknown,
        Err(RowError::UnknownShape { .. }) if keys.len() == 1 => Header::Unknown,
        Err(error) => Header::Refused(error),
    }
}

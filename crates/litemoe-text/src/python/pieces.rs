//! Methods of Python's `str` that take a text apart.

use minijinja::Error;
use minijinja::value::{Tuple, Value};

use crate::python::arguments::{bind, invalid, or, required, str_arg};
use crate::python::classes;

/// `split(sep=None, maxsplit=-1)` and `rsplit`.
pub(super) fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [separator, n_max] = bind(["sep", "maxsplit"], args)?;
    let n_max = usize::try_from(or(n_max, -1_i64)?).unwrap_or(usize::MAX);
    let Some(separator) = separator else {
        let words = if from_end { words_from_end(text, n_max) } else { words(text, n_max) };
        return Ok(words.into_iter().map(Value::from).collect());
    };
    let separator = str_arg(&separator)?;
    if separator.is_empty() {
        return Err(invalid("the separator is empty"));
    }
    let n_max = n_max.saturating_add(1);
    match from_end {
        true => {
            let mut parts: Vec<_> = text.rsplitn(n_max, separator).collect();
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        false => Ok(text.splitn(n_max, separator).map(Value::from).collect()),
    }
}

/// Words between runs of white space, the last one with the rest.
fn words(text: &str, n_max: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(classes::is_space);
    while !rest.is_empty() {
        let end = match words.len() < n_max {
            true => rest.find(classes::is_space).unwrap_or(rest.len()),
            false => rest.len(),
        };
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.trim_start_matches(classes::is_space);
    }
    words
}

/// Words between runs of white space, the first one with the rest.
fn words_from_end(text: &str, n_max: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end_matches(classes::is_space);
    while !rest.is_empty() {
        let space = match words.len() < n_max {
            true => rest.char_indices().rfind(|&(_, c)| classes::is_space(c)),
            false => None,
        };
        let (before, word) = rest.split_at(space.map_or(0, |(at, c)| at + c.len_utf8()));
        words.push(word);
        rest = before.trim_end_matches(classes::is_space);
    }
    words.reverse();
    words
}

/// `splitlines(keepends=False)`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Value {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_line_end).unwrap_or(rest.len());
        let n_end = match rest[end..].starts_with("\r\n") {
            true => 2,
            false => rest[end..].chars().next().map_or(0, char::len_utf8),
        };
        let (line, after) = rest.split_at(end + n_end);
        lines.push(Value::from(if keep_ends { line } else { &line[..end] }));
        rest = after;
    }
    Value::from(lines)
}

fn is_line_end(letter: char) -> bool {
    matches!(letter, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `partition` and `rpartition`.
pub(super) fn partition(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [separator] = bind([""], args)?;
    let separator = required(separator)?;
    let separator = str_arg(&separator)?;
    if separator.is_empty() {
        return Err(invalid("the separator is empty"));
    }
    let parts = match from_end {
        true => text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b]),
        false => text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b]),
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

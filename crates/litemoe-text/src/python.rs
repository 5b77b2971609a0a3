//! Python functions that transformers adds to Jinja for chat templates.

use std::fmt::Write;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use thiserror::Error as ThisError;

use crate::bounded;

pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
}

fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    for value in [value].into_iter().chain(args) {
        bounded::check(state, value)?;
    }
    match (value.as_str(), name, args) {
        (Some(text), "title", []) => return Ok(title(text).into()),
        (Some(text), "strip" | "lstrip" | "rstrip", [chars]) => {
            // Each letter is compared with every character to strip.
            state.consume_fuel((text.len() / 64 * chars.len().unwrap_or(0)) as u64)?;
        }
        (Some(text), "format", _) => state.consume_fuel(widths(text) / 64)?,
        _ => {}
    }
    unknown_method_callback(state, value, name, args)
}

/// Sum of all numbers in a format string: an upper bound of the width it pads to.
fn widths(format: &str) -> u64 {
    let digits = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    digits.fold(0, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(u64::MAX)))
}

/// `str.title`, which capitalises every letter after a non-letter, as in `They'Re`; that of minijinja-contrib 3.0.5
/// does not.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for letter in text.chars() {
        match inside {
            true => titled.extend(letter.to_lowercase()),
            false => titled.extend(letter.to_uppercase()),
        }
        inside = letter.is_alphabetic();
    }
    titled
}

/// Source of the error that `raise_exception` raises, to distinguish it from other errors.
#[derive(Debug, ThisError)]
#[error("{0}")]
pub(crate) struct Raised(pub(crate) String);

fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    bounded::check(state, message)?;
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template")
        .with_source(Raised(message.to_string())))
}

fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    // Two characters of a format become at most about thirty characters.
    state.consume_fuel(format.len() as u64)?;
    let mut now = String::new();
    write!(now, "{}", chrono::Local::now().format(format)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("{format:?} is not a format of times"))
    })?;
    Ok(now)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
#[allow(clippy::needless_pass_by_value)] // minijinja passes keyword arguments by value
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<Value, Error> {
    bounded::check(state, value)?;
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson knows only ensure_ascii=false",
        ));
    }
    options.assert_all_used()?;
    let json = match indent {
        Some(width) => {
            dumps(value, PrettyFormatter::with_indent(" ".repeat(width.min(16)).as_bytes()))
        }
        None => dumps(value, Spaced),
    }?;
    Ok(Value::from_safe_string(json))
}

fn dumps(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let error = |source: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "not serializable as JSON").with_source(source)
    };
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, formatter)).map_err(error)?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// Python's default layout: one line, a space after every comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W>(&mut self, writer: &mut W) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        writer.write_all(b": ")
    }
}

//! Texts of values, as Python's `str` and `repr` give them.

use std::borrow::Cow;
use std::fmt::Write;

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::python::kinds::{DictView, is_dict};

/// `str(value)`: what a template prints. Values whose text Python does not determine, such as generators and methods,
/// are an error.
pub(super) fn str_of(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    let mut text = String::new();
    if !value.is_undefined() {
        write(value, &mut text)?;
    }
    Ok(Cow::Owned(text))
}

/// `repr(value)`.
fn write(value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)?),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => sequence(value, out)?,
        ValueKind::Map if is_dict(value) => dict(value, out)?,
        _ => match value.downcast_object_ref::<DictView>() {
            Some(view) => {
                out.push_str(view.name);
                out.push_str("([");
                items(view.items.iter().cloned(), out)?;
                out.push_str("])");
            }
            None => return Err(no_text(value)),
        },
    }
    Ok(())
}

fn no_text(value: &Value) -> Error {
    let reason = format!("a value of this kind ({}) has no text", value.kind());
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Python's text of a number.
pub(super) fn number(value: &Value) -> Result<String, Error> {
    match value.is_integer() {
        true => Ok(value.to_string()),
        false => f64::try_from(value.clone()).map(float),
    }
}

/// `repr(float)`: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..16 => format!("{number:?}"),
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

fn sequence(value: &Value, out: &mut String) -> Result<(), Error> {
    let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
    out.push(if is_tuple { '(' } else { '[' });
    let n = items(value.try_iter()?, out)?;
    if is_tuple && n == 1 {
        out.push(',');
    }
    out.push(if is_tuple { ')' } else { ']' });
    Ok(())
}

fn items(values: impl Iterator<Item = Value>, out: &mut String) -> Result<usize, Error> {
    let mut n = 0;
    for item in values {
        if n > 0 {
            out.push_str(", ");
        }
        write(&item, out)?;
        n += 1;
    }
    Ok(n)
}

fn dict(value: &Value, out: &mut String) -> Result<(), Error> {
    out.push('{');
    for (index, key) in value.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(&key, out)?;
        out.push_str(": ");
        write(&value.get_item(&key)?, out)?;
    }
    out.push('}');
    Ok(())
}

/// `repr(str)`.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => out.extend(['\\', letter]),
            _ if is_printable(letter) => out.push(letter),
            _ => push_escaped(letter, out),
        }
    }
    out.push(quote);
}

fn push_escaped(letter: char, out: &mut String) {
    let written = match u32::from(letter) {
        code @ ..0x100 => write!(out, "\\x{code:02x}"),
        code @ ..0x1_0000 => write!(out, "\\u{code:04x}"),
        code => write!(out, "\\U{code:08x}"),
    };
    written.unwrap_or_default(); // a `String` takes any text
}

/// `str.isprintable` of a letter: Rust escapes the same letters, but for combining ones at the start of a text.
fn is_printable(letter: char) -> bool {
    let text = format!("a{letter}");
    letter == '"' || text.escape_debug().eq(text.chars())
}

//! Texts of values, as Python's `str` and `repr` give them.

use std::borrow::Cow;
use std::fmt::Write;

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::python::kinds::{DictView, Range, is_dict, is_list};

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
        ValueKind::Map if is_dict(value) => dict(value, out)?,
        _ if is_list(value) => sequence(value, out)?,
        _ => {
            if let Some(view) = value.downcast_object_ref::<DictView>() {
                out.extend([view.name, "(["]);
                items(view.items.iter().cloned(), out)?;
                out.push_str("])");
            } else if let Some(range) = value.downcast_object_ref::<Range>() {
                out.push_str(&range.repr());
            } else {
                return Err(no_text(value));
            }
        }
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
    let (sign, digits, point) = shortest(number);
    let n = digits.len() as i32;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    match point {
        -3..=0 => format!("{sign}0.{}{digits}", zeros(-point)),
        1..=16 if point >= n => format!("{sign}{digits}{}.0", zeros(point - n)),
        1..=16 => format!("{sign}{}.{}", &digits[..point as usize], &digits[point as usize..]),
        _ => {
            let exponent = point - 1;
            let (first, others) = digits.split_at(1);
            let dot = if others.is_empty() { "" } else { "." };
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{first}{dot}{others}e{exponent_sign}{:02}", exponent.abs())
        }
    }
}

/// Sign, the shortest digits that read back, the even ones of two equally near, and the position of the point.
/// `serde_json` finds the digits: those of the standard library are not the even ones.
fn shortest(number: f64) -> (&'static str, String, i32) {
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let text = serde_json::Value::from(number.abs()).to_string();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let point = whole.len() as i32 - (all.len() - digits.len()) as i32;
    let digits = digits.trim_end_matches('0');
    match digits.is_empty() {
        true => (sign, "0".to_owned(), 1),
        false => (sign, digits.to_owned(), point + exponent.parse::<i32>().unwrap_or(0)),
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
    matches!(letter, '"' | '\'') || text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use super::float;

    /// Expected texts: Python's `repr`.
    #[test]
    fn floats_are_those_of_python() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (-1.5e-300, "-1.5e-300"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (3_991_789_054_585_837.0 / 4.0, "997947263646459.2"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}

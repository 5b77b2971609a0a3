//! Numbers in texts, as Python's `int` and `float` read them.

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind};

use crate::python::arguments::{bind, invalid, or};
use crate::python::classes::is_space;

/// Filter `int(value, default=0, base=10)`.
pub(super) fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default, base] = bind(["default", "base"], &args.into_values())?;
    let base: u32 = or(base, 10)?;
    defined(value)?;
    let number = match value.as_str() {
        Some(text) => match integer(text, base)? {
            Some(number) => Some(number),
            None => float(text)?.map(truncated).transpose()?,
        },
        None if value.is_integer() || value.kind() == ValueKind::Bool => {
            i128::try_from(value.clone()).ok().or(Some(i128::from(value.is_true())))
        }
        None => f64::try_from(value.clone()).ok().map(truncated).transpose()?,
    };
    Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0)), Value::from))
}

/// Checks that a value that becomes a number is defined.
pub(super) fn defined(value: &Value) -> Result<(), Error> {
    match value.is_undefined() {
        true => Err(Error::from(ErrorKind::UndefinedError)),
        false => Ok(()),
    }
}

/// `int(text, base)`; `None` if the text is no integer.
fn integer(text: &str, base: u32) -> Result<Option<i128>, Error> {
    if !text.is_ascii() {
        return Err(invalid("numbers of other scripts are not read"));
    }
    let text = text.trim_matches(is_space);
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match (base, lower.as_bytes()) {
        (0 | 16, [b'0', b'x', ..]) => (16, &lower[2..]),
        (0 | 8, [b'0', b'o', ..]) => (8, &lower[2..]),
        (0 | 2, [b'0', b'b', ..]) => (2, &lower[2..]),
        (0, [b'0', ..]) if lower.bytes().any(|b| b.is_ascii_digit() && b != b'0') => {
            return Ok(None);
        }
        (0, _) => (10, &*lower),
        (2..=36, _) => (base, &*lower),
        _ => return Err(invalid("a base is 0 or from 2 to 36")),
    };
    let Some(digits) = ungrouped(digits) else { return Ok(None) };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Ok(None);
    }
    let number =
        i128::from_str_radix(&digits, base).map_err(|_| invalid("a number is too large"))?;
    Ok(Some(if is_negative { -number } else { number }))
}

/// `float(text)`; `None` if the text is no number.
pub(super) fn float(text: &str) -> Result<Option<f64>, Error> {
    if !text.is_ascii() {
        return Err(invalid("numbers of other scripts are not read"));
    }
    Ok(ungrouped(text.trim_matches(is_space)).and_then(|text| text.parse().ok()))
}

/// Digits without the single underscores between them; `None` if there are others.
fn ungrouped(digits: &str) -> Option<String> {
    let groups: Vec<_> = digits.split('_').collect();
    let is_right = groups.windows(2).all(|pair| {
        let ends = |text: &str| text.ends_with(|c: char| c.is_ascii_alphanumeric());
        ends(pair[0]) && pair[1].starts_with(|c: char| c.is_ascii_alphanumeric())
    });
    is_right.then(|| groups.concat())
}

fn truncated(number: f64) -> Result<i128, Error> {
    match number.abs() < 1e38 {
        true => Ok(number as i128),
        false => Err(invalid("a number is too large")),
    }
}

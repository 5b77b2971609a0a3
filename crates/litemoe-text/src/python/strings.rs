//! Methods of Python's `str`.

use minijinja::filters;
use minijinja::value::{Kwargs, StringInput, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::python::arguments::{bind, invalid, or, required, str_arg};
use crate::python::{classes, pieces, repr};

/// Calls a method.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    text: &str,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match name {
        "strip" | "lstrip" | "rstrip" => strip(state, text, name, args),
        "split" | "rsplit" => pieces::split(text, name == "rsplit", args),
        "splitlines" => {
            let [keep_ends] = bind(["keepends"], args)?;
            Ok(pieces::lines(text, keep_ends.is_some_and(|keep| keep.is_true())))
        }
        "partition" | "rpartition" => pieces::partition(text, name == "rpartition", args),
        "replace" => replace(state, text, args),
        "join" => join(state, text, args),
        "removeprefix" | "removesuffix" => {
            let [affix] = bind([""], args)?;
            let affix = required(affix)?;
            let affix = str_arg(&affix)?;
            let stripped = match name {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            Ok(stripped.unwrap_or(text).into())
        }
        "startswith" | "endswith" => affixed(text, name == "endswith", args),
        "find" | "rfind" | "index" | "rindex" | "count" => find(text, name, args),
        "ljust" | "rjust" | "center" | "zfill" => pad(state, text, name, args),
        "title" => {
            let [] = bind([], args)?;
            title(state, text)
        }
        "isalpha" | "isdecimal" | "isdigit" | "isnumeric" | "isalnum" | "isspace" => {
            let [] = bind([], args)?;
            classes::is(text, name).map(Value::from)
        }
        "format" => {
            state.consume_fuel(widths(text) / 64)?;
            args.iter().try_for_each(check_same_text)?;
            unknown_method_callback(state, value, name, args)
        }
        "upper" | "lower" | "capitalize" | "islower" | "isupper" | "isascii" => {
            unknown_method_callback(state, value, name, args)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Checks that the engine formats a value as Python does.
pub(super) fn check_same_text(value: &Value) -> Result<(), Error> {
    let is_same = match value.kind() {
        ValueKind::String => true,
        ValueKind::Map if Kwargs::try_from(value.clone()).is_ok() => {
            let is_same = |key: Value| check_same_text(&value.get_item(&key)?);
            value.try_iter()?.try_for_each(is_same)?;
            true
        }
        _ => repr::str_of(value)? == value.to_string(),
    };
    match is_same {
        true => Ok(()),
        false => Err(invalid("a value with another text in Python cannot be formatted")),
    }
}

/// Sum of all numbers in a format string: an upper bound of the width it pads to.
pub(super) fn widths(format: &str) -> u64 {
    let digits = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    digits.fold(0, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(u64::MAX)))
}

/// Consumes fuel for a text that is about to be built.
fn charge(state: &State<'_, '_>, n_bytes: usize) -> Result<(), Error> {
    state.consume_fuel(n_bytes as u64 / 64)
}

/// `strip`, `lstrip` and `rstrip`, also of filter `trim`.
pub(super) fn strip(
    state: &State<'_, '_>,
    text: &str,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let [chars] = bind(["chars"], args)?;
    let set = chars.as_ref().map(str_arg).transpose()?;
    // Each letter is compared with every character to strip.
    let n_chars = set.map_or(1, |set| set.chars().count());
    state.consume_fuel((text.len() / 64).saturating_mul(n_chars) as u64)?;
    let is_stripped = |c: char| set.map_or_else(|| classes::is_space(c), |set| set.contains(c));
    Ok(Value::from(match name {
        "lstrip" => text.trim_start_matches(is_stripped),
        "rstrip" => text.trim_end_matches(is_stripped),
        _ => text.trim_matches(is_stripped),
    }))
}

fn replace(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<Value, Error> {
    let [old, new, count] = bind(["", "", ""], args)?;
    let (old, new, count) = (required(old)?, required(new)?, or(count, -1)?);
    let (old, new) = (str_arg(&old)?, str_arg(&new)?);
    let n_found = text.matches(old).count().min(usize::try_from(count).unwrap_or(usize::MAX));
    charge(state, text.len().saturating_add(n_found.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, n_found).into())
}

fn join(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<Value, Error> {
    let [values] = bind([""], args)?;
    let mut joined = String::new();
    for (index, value) in required(values)?.try_iter()?.enumerate() {
        let item = str_arg(&value)?;
        charge(state, 64 + text.len() + item.len())?;
        joined += if index > 0 { text } else { "" };
        joined += item;
    }
    Ok(joined.into())
}

/// A text between two positions in letters, as in Python's slices, and the number of letters before it. `None` if it
/// begins after the end.
fn between(
    text: &str,
    start: Option<Value>,
    end: Option<Value>,
) -> Result<Option<(&str, usize)>, Error> {
    let n = text.chars().count();
    let position = |at: Option<Value>, default: usize| -> Result<usize, Error> {
        let at: i64 = or(at, default as i64)?;
        let at = if at < 0 { at.saturating_add_unsigned(n as u64) } else { at };
        Ok(usize::try_from(at).unwrap_or(0))
    };
    let (start, end) = (position(start, 0)?, position(end, n)?.min(n));
    if start > end {
        return Ok(None);
    }
    let offset = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(offset, _)| offset);
    Ok(Some((&text[offset(start)..offset(end)], start)))
}

fn affixed(text: &str, at_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [affix, start, end] = bind(["", "", ""], args)?;
    let affix = required(affix)?;
    let affixes = match affix.downcast_object_ref::<Tuple>() {
        Some(affixes) => affixes.to_vec(),
        None => vec![affix.clone()],
    };
    let Some((part, _)) = between(text, start, end)? else {
        return affixes
            .iter()
            .try_for_each(|affix| str_arg(affix).map(drop))
            .map(|()| false.into());
    };
    for affix in &affixes {
        let affix = str_arg(affix)?;
        if if at_end { part.ends_with(affix) } else { part.starts_with(affix) } {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn find(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let [what, start, end] = bind(["", "", ""], args)?;
    let what = required(what)?;
    let what = str_arg(&what)?;
    let part = between(text, start, end)?;
    if name == "count" {
        return Ok(part.map_or(0, |(part, _)| part.matches(what).count()).into());
    }
    let found = part.and_then(|(part, before)| {
        let at = if name.starts_with('r') { part.rfind(what) } else { part.find(what) };
        at.map(|at| before + part[..at].chars().count())
    });
    match (found, name.ends_with("index")) {
        (Some(at), _) => Ok(at.into()),
        (None, true) => Err(invalid("substring not found")),
        (None, false) => Ok((-1).into()),
    }
}

fn pad(state: &State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let [width, fill] = bind(["", ""], args)?;
    let width = usize::try_from(i64::try_from(required(width)?)?).unwrap_or(0);
    let fill = match &fill {
        Some(fill) => str_arg(fill)?,
        None if name == "zfill" => "0",
        None => " ",
    };
    if fill.chars().count() != 1 {
        return Err(invalid("the text to pad with is not one character"));
    }
    let n = width.saturating_sub(text.chars().count());
    charge(state, n.saturating_mul(fill.len()))?;
    let left = match name {
        "ljust" => 0,
        // An odd place goes to the left if the width is odd.
        "center" => n / 2 + (n & width & 1),
        _ => n,
    };
    let (before, after) = (fill.repeat(left), fill.repeat(n - left));
    let (sign, text) = match name {
        "zfill" if text.starts_with(['-', '+']) => text.split_at(1),
        _ => ("", text),
    };
    Ok(format!("{sign}{before}{text}{after}").into())
}

/// `str.title`: the titlecase of every letter after one without case, and the lowercase of the others.
fn title(state: &mut State<'_, '_>, text: &str) -> Result<Value, Error> {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (inside, letter) {
            (true, 'Σ') => {
                // The form at the end of a word, which the standard library tells from the letters after it.
                let word: String = ['a', 'Σ'].into_iter().chain(letters.clone().take(32)).collect();
                titled.extend(word.to_lowercase().chars().nth(1));
            }
            (true, _) => titled.extend(letter.to_lowercase()),
            (false, _) => {
                let letter = Value::from(letter);
                let upper = filters::capitalize(StringInput::new(state, &letter)?);
                titled += upper.as_str().unwrap_or_default();
            }
        }
        inside = classes::is_cased(letter);
    }
    Ok(titled.into())
}

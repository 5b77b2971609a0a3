//! `json.dumps`, which transformers' filter `tojson` calls.

use std::fmt::Write;

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State};

use crate::bounded;
use crate::python::arguments::{bind, invalid};
use crate::python::kinds::{is_dict, is_list};
use crate::python::repr;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    args: Rest<ValueOrKwargs>,
) -> Result<String, Error> {
    let [ensure_ascii, indent, separators, sort_keys] =
        bind(["ensure_ascii", "indent", "separators", "sort_keys"], &args.into_values())?;
    let indent = indent.map(|indent| indentation(&indent)).transpose()?;
    let [item, key] = match separators {
        Some(separators) => separated(&separators)?,
        None if indent.is_some() => [",", ": "].map(str::to_owned),
        None => [", ", ": "].map(str::to_owned),
    };
    let is_true = |option: Option<Value>| option.is_some_and(|option| option.is_true());
    let options = Options {
        ensure_ascii: is_true(ensure_ascii),
        sort_keys: is_true(sort_keys),
        indent,
        item,
        key,
    };
    bounded::check(state, value)?;
    let mut json = String::new();
    options.write(value, 0, &mut json)?;
    state.consume_fuel(json.len() as u64 / 64)?;
    Ok(json)
}

/// Maximum bytes of a value, as of a whole rendering.
const MAX_JSON: usize = 16 << 20;

/// Maximum width of an indentation.
const MAX_INDENT: usize = 64;

fn indentation(indent: &Value) -> Result<String, Error> {
    let indent = match (indent.as_str(), i64::try_from(indent.clone())) {
        (Some(text), _) => text.to_owned(),
        (None, Ok(width)) => " ".repeat(usize::try_from(width).unwrap_or(0).min(MAX_INDENT + 1)),
        (None, Err(_)) => return Err(invalid("indent is neither a number nor a text")),
    };
    match indent.len() {
        ..=MAX_INDENT => Ok(indent),
        _ => Err(invalid(&format!("an indentation of more than {MAX_INDENT}"))),
    }
}

fn separated(separators: &Value) -> Result<[String; 2], Error> {
    let texts: Vec<_> =
        separators.try_iter()?.map(|text| text.as_str().map(str::to_owned)).collect();
    match <[_; 2]>::try_from(texts) {
        Ok([Some(item), Some(key)]) if item.len().max(key.len()) <= MAX_INDENT => Ok([item, key]),
        _ => Err(invalid("separators are not two short texts")),
    }
}

struct Options {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl Options {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.quote(value.as_str().unwrap_or_default(), out),
            _ if is_list(value) => {
                let items: Vec<_> = value.try_iter()?.collect();
                self.container(['[', ']'], &items, depth, out, |item, out| {
                    self.write(item, depth + 1, out)
                })?;
            }
            ValueKind::Map if is_dict(value) => {
                let mut keys = value.try_iter()?.map(|key| Ok((self.name(&key)?, key)));
                let mut keys = keys.by_ref().collect::<Result<Vec<_>, Error>>()?;
                if self.sort_keys {
                    if keys.iter().any(|(_, key)| key.as_str().is_none()) {
                        return Err(invalid("only texts are sorted as keys"));
                    }
                    keys.sort();
                }
                self.container(['{', '}'], &keys, depth, out, |(name, key), out| {
                    self.quote(name, out);
                    out.push_str(&self.key);
                    self.write(&value.get_item(key)?, depth + 1, out)
                })?;
            }
            _ => out.push_str(&atom(value)?),
        }
        Ok(())
    }

    fn container<T>(
        &self,
        [open, close]: [char; 2],
        items: &[T],
        depth: usize,
        out: &mut String,
        write: impl Fn(&T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item);
            }
            self.new_line(depth + 1, out);
            write(item, out)?;
            if out.len() > MAX_JSON {
                return Err(Error::from(ErrorKind::OutOfFuel));
            }
        }
        if !items.is_empty() {
            self.new_line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    /// The text of a key: other scalars than texts are written as such.
    fn name(&self, key: &Value) -> Result<String, Error> {
        match key.as_str() {
            Some(name) => Ok(name.to_owned()),
            None => atom(key),
        }
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..=' ' if letter != ' ' => push_escaped(letter, out),
                '\u{7f}'.. if self.ensure_ascii => push_escaped(letter, out),
                _ => out.push(letter),
            }
        }
        out.push('"');
    }
}

/// A letter as one or two UTF-16 units.
fn push_escaped(letter: char, out: &mut String) {
    for unit in letter.encode_utf16(&mut [0; 2]) {
        write!(out, "\\u{unit:04x}").unwrap_or_default(); // a `String` takes any text
    }
}

/// A value that is neither a text nor a container.
fn atom(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number => match &*repr::number(value)? {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            number => number.to_owned(),
        },
        kind => return Err(invalid(&format!("a value of this kind ({kind}) is not JSON"))),
    })
}

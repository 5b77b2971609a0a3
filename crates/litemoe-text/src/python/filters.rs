//! Filters of Jinja that differ from those of the engine.

use minijinja::filters;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State};

use crate::bounded;
use crate::one_shot::OneShot;
use crate::python::arguments::{bind, invalid, str_arg};
use crate::python::kinds::{is_dict, pairs};
use crate::python::strings::{check_same_text, strip, widths};
use crate::python::{int, json, kinds, pieces, repr};

/// Filters that only the engine has, and those whose results have another text than in Python.
const REMOVED: [&str; 11] = [
    "attr",
    "bool",
    "chain",
    "e",
    "escape",
    "groupby",
    "lines",
    "pprint",
    "split",
    "urlencode",
    "zip",
];

type Args = Rest<ValueOrKwargs>;
type Done = Result<Value, Error>;

pub(super) fn add_to(environment: &mut Environment<'_>) {
    REMOVED.iter().for_each(|name| environment.remove_filter(name));
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    environment.add_filter("batch", batch);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("float", float);
    environment.add_filter("format", format);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int::int);
    environment.add_filter("items", items);
    environment.add_filter("join", join);
    environment.add_filter("map", map);
    environment.add_filter("max", max);
    environment.add_filter("min", min);
    environment.add_filter("reject", reject);
    environment.add_filter("rejectattr", rejectattr);
    environment.add_filter("reverse", reverse);
    environment.add_filter("select", select);
    environment.add_filter("selectattr", selectattr);
    environment.add_filter("slice", slice);
    environment.add_filter("sort", sort);
    environment.add_filter("string", string);
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("trim", trim);
    environment.add_filter("unique", unique);
}

/// Text of any value, bounded.
pub(super) fn string(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    bounded::check(state, value)?;
    let text = repr::str_of(value)?;
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(text.into_owned())
}

fn default(value: &Value, args: Args) -> Done {
    let [other, boolean] = bind(["default_value", "boolean"], &args.into_values())?;
    let is_missing =
        value.is_undefined() || boolean.is_some_and(|b| b.is_true()) && !value.is_true();
    Ok(if is_missing { other.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

fn float(value: &Value, args: Args) -> Done {
    let [default] = bind(["default"], &args.into_values())?;
    int::defined(value)?;
    let number = match value.as_str() {
        Some(text) => int::float(text)?,
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

fn format(state: &mut State<'_, '_>, value: &Value, args: Args) -> Done {
    state.consume_fuel(widths(str_arg(value)?) / 64)?;
    args.iter().try_for_each(|value| check_same_text(value))?;
    filters::format(state, value, args)
}

fn indent(state: &State<'_, '_>, value: &Value, args: Args) -> Done {
    let [width, first, blank] = bind(["width", "first", "blank"], &args.into_values())?;
    let text = string(state, value)?;
    let [first, blank] = [first, blank].map(|option| option.is_some_and(|option| option.is_true()));
    let width = match width {
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let n = usize::try_from(i64::try_from(width)?).unwrap_or(0);
                state.consume_fuel(n as u64 / 64)?;
                " ".repeat(n)
            }
        },
        None => " ".repeat(4),
    };
    let n_lines = text.matches('\n').count() + 1;
    state.consume_fuel(n_lines.saturating_mul(width.len()) as u64 / 64)?;
    let mut indented = if first { width.clone() } else { String::new() };
    let ended = text + "\n";
    for (index, line) in pieces::lines(&ended, false).try_iter()?.enumerate() {
        let line = line.as_str().unwrap_or_default().to_owned();
        if index > 0 {
            indented.push('\n');
            indented += if line.is_empty() && !blank { "" } else { &width };
        }
        indented += &line;
    }
    Ok(indented.into())
}

fn items(state: &State<'_, '_>, value: &Value) -> Done {
    bounded::check(state, value)?;
    match value.is_undefined() {
        true => Ok(OneShot::of(Vec::new())),
        false if is_dict(value) => Ok(OneShot::of(pairs(value)?)),
        false => Err(invalid("only the items of a mapping are known")),
    }
}

fn join(state: &State<'_, '_>, value: &Value, args: Args) -> Done {
    let [joiner, attribute] = bind(["d", "attribute"], &args.into_values())?;
    bounded::check(state, value)?;
    let joiner = joiner.as_ref().map_or_else(|| Ok("".into()), repr::str_of)?;
    let mut joined = String::new();
    if value.is_undefined() {
        return Ok(joined.into());
    }
    for (index, item) in value.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(attribute) => at_path(item, attribute)?,
            None => item,
        };
        let text = repr::str_of(&item)?;
        let between = if index > 0 { &*joiner } else { "" };
        state.consume_fuel((between.len() + text.len()) as u64 / 64)?;
        joined += between;
        joined += &text;
    }
    Ok(joined.into())
}

/// `value[path]`, where a dot in the path separates keys.
fn at_path(value: Value, path: &Value) -> Done {
    let Some(path) = path.as_str() else { return value.get_item(path) };
    path.split('.').try_fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => value.get_item(&Value::from(index)),
        Err(_) => kinds::item(&value, key),
    })
}

fn trim(state: &State<'_, '_>, value: &Value, args: Args) -> Done {
    strip(state, &string(state, value)?, "strip", &args.into_values())
}

fn generator(items: Result<Vec<Value>, Error>) -> Done {
    items.map(OneShot::of)
}

fn collected(items: &Value) -> Done {
    Ok(OneShot::of(items.try_iter()?.collect()))
}

fn map(state: &mut State<'_, '_>, value: Value, args: Args) -> Done {
    generator(filters::map(state, value, args))
}

fn select(state: &mut State<'_, '_>, value: Value, test: Option<String>, args: Args) -> Done {
    generator(filters::select(state, value, test.map(Into::into), args))
}

fn reject(state: &mut State<'_, '_>, value: Value, test: Option<String>, args: Args) -> Done {
    generator(filters::reject(state, value, test.map(Into::into), args))
}

fn selectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: String,
    test: Option<String>,
    args: Args,
) -> Done {
    generator(filters::selectattr(state, value, attribute.into(), test.map(Into::into), args))
}

fn rejectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: String,
    test: Option<String>,
    args: Args,
) -> Done {
    generator(filters::rejectattr(state, value, attribute.into(), test.map(Into::into), args))
}

fn batch(state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>) -> Done {
    collected(&filters::batch(state, value, count, fill)?)
}

fn slice(state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>) -> Done {
    collected(&filters::slice(state, value, count, fill)?)
}

// What these filters compare is bounded.

fn dictsort(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Done {
    bounded::check(state, value)?;
    filters::dictsort(value, options)
}

fn max(state: &State<'_, '_>, value: Value, options: Kwargs) -> Done {
    bounded::check(state, &value)?;
    filters::max(state, value, options)
}

fn min(state: &State<'_, '_>, value: Value, options: Kwargs) -> Done {
    bounded::check(state, &value)?;
    filters::min(state, value, options)
}

fn sort(state: &State<'_, '_>, value: Value, options: Kwargs) -> Done {
    bounded::check(state, &value)?;
    filters::sort(state, value, options)
}

fn unique(state: &State<'_, '_>, value: Value, options: Kwargs) -> Done {
    bounded::check(state, &value)?;
    collected(&filters::unique(state, value, options)?)
}

fn reverse(state: &State<'_, '_>, value: &Value) -> Done {
    bounded::check(state, value)?;
    let reversed = filters::reverse(value)?;
    match value.kind() {
        ValueKind::String => Ok(reversed),
        _ => collected(&reversed),
    }
}

//! Python's and Jinja's semantics where they differ from the engine's, and the functions that transformers adds to Jinja
//! for chat templates.

mod arguments;
mod classes;
mod filters;
mod int;
mod json;
mod kinds;
mod pieces;
mod repr;
mod strftime;
mod strings;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use thiserror::Error as ThisError;

use crate::bounded;
use crate::python::arguments::{bind, invalid};
use crate::python::kinds::DictView;

pub(crate) use crate::python::kinds::is_method;

/// Name of the filter that converts the operands of `~` to text.
pub(crate) const TEXT: &str = "litemoe_text";

/// Name of the filter `value.name` for names of methods.
pub(crate) const ATTRIBUTE: &str = "litemoe_attribute";

/// Name of the filter `value['name']` for names of methods.
pub(crate) const ITEM: &str = "litemoe_item";

/// Functions of Jinja that are defined but cannot be called.
const UNKNOWN: [&str; 3] = ["cycler", "joiner", "lipsum"];

/// Tests that only the engine has.
const REMOVED_TESTS: [&str; 4] = ["endingwith", "int", "safe", "startingwith"];

pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    environment.remove_global("debug");
    environment.add_function("range", kinds::Range::call);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime::strftime_now);
    for name in UNKNOWN {
        environment.add_function(name, move || -> Result<Value, Error> {
            Err(invalid(&format!("`{name}` is not supported")))
        });
    }
    filters::add_to(environment);
    environment.add_filter(TEXT, filters::string);
    environment.add_filter(ATTRIBUTE, |value: &Value, name: &str| kinds::attribute(value, name));
    environment.add_filter(ITEM, |value: &Value, name: &str| kinds::item(value, name));
    REMOVED_TESTS.iter().for_each(|name| environment.remove_test(name));
    environment.add_test("iterable", |value: &Value| kinds::is_iterable(value));
    environment.add_test("mapping", |value: &Value| kinds::is_dict(value));
    environment.add_test("sequence", |value: &Value| kinds::is_sequence(value));
}

fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    bounded::check(state, value)?;
    Ok(out.write_str(&repr::str_of(value)?)?)
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
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            strings::call(state, value, text, name, args)
        }
        ValueKind::Map if kinds::is_dict(value) => dict_method(value, name, args),
        _ if kinds::is_list(value) => list_method(value, name, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn dict_method(dict: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if name == "get" {
        let [key, default] = bind(["", ""], args)?;
        let item = dict.get_item(&key.unwrap_or_else(|| Value::from(())))?;
        return Ok(match item.is_undefined() {
            true => default.unwrap_or_else(|| Value::from(())),
            false => item,
        });
    }
    let method = match name {
        "keys" => DictView::keys,
        "values" => DictView::values,
        "items" => DictView::items,
        "copy" => |dict: &Value| Ok(dict.clone()),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    let [] = bind([], args)?;
    method(dict)
}

fn list_method(list: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let mut items = list.try_iter()?;
    match name {
        "copy" => {
            let [] = bind([], args)?;
            Ok(list.clone())
        }
        "count" | "index" => {
            let [Some(what)] = bind([""], args)? else {
                return Err(Error::from(ErrorKind::MissingArgument));
            };
            match name {
                "count" => Ok(items.filter(|item| *item == what).count().into()),
                _ => match items.position(|item| item == what) {
                    Some(at) => Ok(at.into()),
                    None => Err(invalid("the value is not in the list")),
                },
            }
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Source of the error that `raise_exception` raises, to distinguish it from other errors.
#[derive(Debug, ThisError)]
#[error("{0}")]
pub(crate) struct Raised(pub(crate) String);

fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    bounded::check(state, message)?;
    let message = repr::str_of(message)?.into_owned();
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template")
        .with_source(Raised(message)))
}

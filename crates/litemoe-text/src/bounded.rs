//! What the engine's fuel does not measure before it is done: going through containers in containers. A few list literals, each
//! naming the one before twice, are more items than there is memory; a namespace in itself has no end at all.

use minijinja::filters;
use minijinja::functions::namespace;
use minijinja::value::{Kwargs, StringInput, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, escape_formatter};

/// The filter that what a variable is set to goes through.
pub(crate) const SET: &str = "litemoe_set";

/// The same of a namespace's attribute: what outlives a loop's turn is made larger and larger by that.
pub(crate) const SET_ATTRIBUTE: &str = "litemoe_set_attribute";

/// Containers in containers; messages with their parts need a few.
const MAX_DEPTH: usize = 32;

/// Items in one value, those of its items included.
const MAX_ITEMS: usize = 50_000;

/// Loops, macros and the like in each other, in the engine's units: a call of a macro is about five.
const MAX_RECURSION: usize = 200;

pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_formatter(format);
    environment.add_filter(SET, set);
    environment.add_filter(SET_ATTRIBUTE, set_attribute);
    environment.add_filter("join", join);
    environment.add_filter("string", string);
    // For debugging alone, and it indents by the depth.
    environment.remove_filter("pprint");
}

/// Checks that a value is small enough to be gone through, and pays for that.
pub(crate) fn check(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let mut items = 0;
    count(value, MAX_DEPTH, &mut items)?;
    state.consume_fuel(items as u64 / 2)
}

/// Adds the items of a value to `items`.
fn count(value: &Value, max_depth: usize, items: &mut usize) -> Result<(), Error> {
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    let mut count_item = |item: &Value| {
        *items += 1;
        if max_depth == 0 || *items > MAX_ITEMS {
            return Err(too_large());
        }
        check_no_namespace(item)?;
        count(item, max_depth - 1, items)
    };
    for item in value.try_iter()? {
        count_item(&item)?;
        if is_map {
            count_item(&value.get_item(&item)?)?;
        }
    }
    Ok(())
}

fn check_no_namespace(value: &Value) -> Result<(), Error> {
    let type_name = |value: &Value| value.as_object().map(|object| object.type_name());
    if value.kind() == ValueKind::Map && type_name(value) == type_name(&namespace(None)?) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a namespace cannot be part of a value",
        ));
    }
    Ok(())
}

fn too_large() -> Error {
    let limits = format!("a value of more than {MAX_ITEMS} items or {MAX_DEPTH} levels");
    Error::new(ErrorKind::InvalidOperation, limits)
}

fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    check(state, value)?;
    escape_formatter(out, state, value)
}

fn set(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    check(state, &value)?;
    Ok(value)
}

fn set_attribute(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    check_no_namespace(&value)?;
    set(state, value)
}

fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    check(state, value)?;
    filters::join(state, value, joiner, attribute, options)
}

fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    check(state, value)?;
    filters::string(state, value)
}

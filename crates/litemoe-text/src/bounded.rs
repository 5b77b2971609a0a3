//! Bounds for work that the engine's fuel does not count in advance: traversing nested containers. A few list literals,
//! each containing the previous one twice, have more items than fit in memory; a namespace that contains itself is
//! infinite.

use minijinja::functions::namespace;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, tests};

use crate::one_shot::OneShot;

/// Name of the filter applied to values that are assigned to variables or compared.
pub(crate) const SET: &str = "litemoe_set";

/// Name of the filter applied to values assigned to namespace attributes, which persist across loop iterations and so
/// can grow without bound.
pub(crate) const SET_ATTRIBUTE: &str = "litemoe_set_attribute";

/// Maximum nesting depth of containers; messages with parts need a few levels.
const MAX_DEPTH: usize = 32;

/// Maximum items in one value, nested items included.
const MAX_ITEMS: usize = 50_000;

/// Maximum nesting of loops, macros and the like, in the engine's units; a macro call is about five.
const MAX_RECURSION: usize = 200;

/// Comparison of two values, which are compared item by item until the smaller one ends.
type Comparison = fn(&Value, &Value) -> bool;

/// Tests that compare, by their names.
const COMPARISONS: [(&[&str], Comparison); 6] = [
    (&["==", "eq", "equalto"], tests::is_eq),
    (&["!=", "ne"], tests::is_ne),
    (&["<", "lt", "lessthan"], tests::is_lt),
    (&["<=", "le"], tests::is_le),
    (&[">", "gt", "greaterthan"], tests::is_gt),
    (&[">=", "ge"], tests::is_ge),
];

pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.set_recursion_limit(MAX_RECURSION);
    environment.add_filter(SET, set);
    environment.add_filter(SET_ATTRIBUTE, set_attribute);
    for (names, compare) in COMPARISONS {
        for name in names {
            let test = move |state: &State<'_, '_>, value: &Value, other: &Value| {
                check(state, other).map(|()| compare(value, other))
            };
            environment.add_test(*name, test);
        }
    }
    environment.add_test("in", |state: &State<'_, '_>, value: &Value, other: &Value| {
        check(state, value)?;
        check(state, other)?;
        tests::is_in(state, value, other)
    });
}

/// Checks that a value is small enough to traverse, and consumes fuel for it.
pub(crate) fn check(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let mut items = 0;
    count(value, MAX_DEPTH, &mut items)?;
    state.consume_fuel(items as u64 / 2)
}

/// Adds the number of items of a value, nested ones included, to `items`.
fn count(value: &Value, max_depth: usize, items: &mut usize) -> Result<(), Error> {
    let mut count_item = |item: &Value| {
        *items += 1;
        if max_depth == 0 || *items > MAX_ITEMS {
            return Err(too_large());
        }
        check_no_namespace(item)?;
        count(item, max_depth - 1, items)
    };
    if let Some(generator) = value.downcast_object_ref::<OneShot>() {
        return generator.left().iter().try_for_each(count_item);
    }
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    for item in value.try_iter()? {
        count_item(&item)?;
        if is_map {
            count_item(&value.get_item(&item)?)?;
        }
    }
    Ok(())
}

/// Whether a value is a namespace, which is no `dict` in Python.
pub(crate) fn is_namespace(value: &Value) -> bool {
    let type_name = |value: &Value| value.as_object().map(|object| object.type_name());
    value.kind() == ValueKind::Map
        && namespace(None).is_ok_and(|namespace| type_name(value) == type_name(&namespace))
}

fn check_no_namespace(value: &Value) -> Result<(), Error> {
    match is_namespace(value) {
        true => {
            Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot be part of a value"))
        }
        false => Ok(()),
    }
}

fn too_large() -> Error {
    let limits = format!("a value of more than {MAX_ITEMS} items or {MAX_DEPTH} levels");
    Error::new(ErrorKind::InvalidOperation, limits)
}

fn set(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    check(state, &value)?;
    Ok(value)
}

fn set_attribute(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    check_no_namespace(&value)?;
    set(state, value)
}

//! Python's types, as far as templates can tell them apart.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Tuple, Value, ValueKind};
use minijinja::{Error, State};

use crate::bounded::is_namespace;
use crate::one_shot::OneShot;
use crate::python::arguments::invalid;

/// Kinds of values, and the methods that Python's types of this kind have.
const METHODS: [(&[ValueKind], &[&str]); 3] = [
    (
        &[ValueKind::Map],
        &[
            "clear",
            "copy",
            "fromkeys",
            "get",
            "items",
            "keys",
            "pop",
            "popitem",
            "setdefault",
            "update",
            "values",
        ],
    ),
    (
        &[ValueKind::Seq, ValueKind::Iterable],
        &[
            "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
            "reverse", "sort",
        ],
    ),
    (
        &[ValueKind::String],
        &[
            "capitalize",
            "casefold",
            "center",
            "count",
            "encode",
            "endswith",
            "expandtabs",
            "find",
            "format",
            "format_map",
            "index",
            "isalnum",
            "isalpha",
            "isascii",
            "isdecimal",
            "isdigit",
            "isidentifier",
            "islower",
            "isnumeric",
            "isprintable",
            "isspace",
            "istitle",
            "isupper",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "maketrans",
            "partition",
            "removeprefix",
            "removesuffix",
            "replace",
            "rfind",
            "rindex",
            "rjust",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "swapcase",
            "title",
            "translate",
            "upper",
            "zfill",
        ],
    ),
];

/// Whether a value is a `dict`: not a namespace, a loop or the like.
pub(super) fn is_dict(value: &Value) -> bool {
    value.kind() == ValueKind::Map && !is_namespace(value)
}

/// Whether a method of some type has this name.
pub(crate) fn is_method(name: &str) -> bool {
    METHODS.iter().any(|(_, names)| names.contains(&name))
}

/// Whether this value has a method of this name.
fn has_method(value: &Value, name: &str) -> bool {
    let is_ours = |(kinds, names): &(&[ValueKind], &[&str])| {
        kinds.contains(&value.kind()) && names.contains(&name)
    };
    !is_namespace(value) && METHODS.iter().any(is_ours)
}

/// `value.name`: a method takes precedence over a key.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    match has_method(value, name) {
        true => Ok(Value::from_object(Method { of: value.clone(), name: name.to_owned() })),
        false => value.get_attr(name),
    }
}

/// `value['name']`: a key takes precedence over a method.
pub(super) fn item(value: &Value, name: &str) -> Result<Value, Error> {
    let item = value.get_item(&Value::from(name))?;
    match item.is_undefined() && has_method(value, name) {
        true => Ok(Value::from_object(Method { of: value.clone(), name: name.to_owned() })),
        false => Ok(item),
    }
}

/// A method that is not called: it is true and has no text.
#[derive(Debug)]
struct Method {
    of: Value,
    name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.of.call_method(state, &self.name, args)
    }
}

/// Python's `dict_keys`, `dict_values` and `dict_items`.
#[derive(Debug)]
pub(super) struct DictView {
    pub(super) name: &'static str,
    pub(super) items: Vec<Value>,
}

impl DictView {
    pub(super) fn keys(dict: &Value) -> Result<Value, Error> {
        let items = dict.try_iter()?.collect();
        Ok(Value::from_object(Self { name: "dict_keys", items }))
    }

    pub(super) fn values(dict: &Value) -> Result<Value, Error> {
        let items = dict.try_iter()?.map(|key| dict.get_item(&key)).collect::<Result<_, _>>()?;
        Ok(Value::from_object(Self { name: "dict_values", items }))
    }

    pub(super) fn items(dict: &Value) -> Result<Value, Error> {
        Ok(Value::from_object(Self { name: "dict_items", items: pairs(dict)? }))
    }
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// The keys and values of a `dict`, as tuples.
pub(super) fn pairs(dict: &Value) -> Result<Vec<Value>, Error> {
    let pair = |key: Value| Ok(Value::from(Tuple::from([key.clone(), dict.get_item(&key)?])));
    dict.try_iter()?.map(pair).collect()
}

/// Python's `range`.
#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    len: usize,
}

impl Range {
    /// `range(stop)` or `range(start, stop, step=1)`, of at most as many numbers as Jinja allows.
    pub(super) fn call(first: i64, stop: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        let (start, stop) = stop.map_or((0, first), |stop| (first, stop));
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(invalid("a range with step 0"));
        }
        let (distance, step_size) = match step > 0 {
            true => (stop.saturating_sub(start), step),
            false => (start.saturating_sub(stop), step.saturating_neg()),
        };
        let len = usize::try_from(distance).unwrap_or(0).div_ceil(step_size as usize);
        match len {
            ..=MAX_RANGE => Ok(Value::from_object(Self { start, stop, step, len })),
            _ => Err(invalid(&format!("a range of more than {MAX_RANGE} numbers"))),
        }
    }

    /// `repr(range)`.
    pub(super) fn repr(&self) -> String {
        let Self { start, stop, step, .. } = self;
        match step {
            1 => format!("range({start}, {stop})"),
            _ => format!("range({start}, {stop}, {step})"),
        }
    }
}

/// Maximum length of a range.
const MAX_RANGE: usize = 100_000;

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = usize::try_from(key.clone()).ok().filter(|&index| index < self.len)?;
        Some(Value::from(self.start + index as i64 * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.len)
    }
}

/// Whether a value is a `list` or a `tuple`. Slices, sums and products of lists are iterables of the engine.
pub(super) fn is_list(value: &Value) -> bool {
    let is_other = value.downcast_object_ref::<OneShot>().is_some()
        || value.downcast_object_ref::<DictView>().is_some()
        || value.downcast_object_ref::<Range>().is_some();
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !is_other
}

/// `value is sequence`: it has a length and is subscriptable.
pub(super) fn is_sequence(value: &Value) -> bool {
    value.is_undefined()
        || value.kind() == ValueKind::String
        || is_dict(value)
        || is_list(value)
        || value.downcast_object_ref::<Range>().is_some()
}

/// `value is iterable`.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

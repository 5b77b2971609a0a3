//! Python's types, as far as templates can tell them apart.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Tuple, Value, ValueKind};
use minijinja::{Error, State};

use crate::bounded::is_namespace;
use crate::one_shot::OneShot;

/// Methods of Python's `dict`, `list`, `tuple` and `str` that have the name of a plausible key.
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
    (&[ValueKind::Seq], &["count", "index"]),
    (
        &[ValueKind::String],
        &[
            "count",
            "encode",
            "find",
            "format",
            "index",
            "join",
            "replace",
            "split",
            "strip",
            "title",
            "translate",
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

/// `value is sequence`: it has a length and is subscriptable.
pub(super) fn is_sequence(value: &Value) -> bool {
    let is_range = || {
        let is_ours = value.downcast_object_ref::<OneShot>().is_some()
            || value.downcast_object_ref::<DictView>().is_some();
        value.kind() == ValueKind::Iterable && !is_ours
    };
    value.is_undefined()
        || matches!(value.kind(), ValueKind::Seq | ValueKind::String)
        || is_dict(value)
        || is_range()
}

/// `value is iterable`.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

//! Reference validator of JSON schemas, for the keywords that grammars support.

use fancy_regex::Regex;
use serde_json::{Map, Value};

/// Whether a value is valid.
pub(crate) fn is_valid(schema: &Value, value: &Value) -> bool {
    valid(schema, schema, value)
}

fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let fields = match schema {
        Value::Bool(all) => return *all,
        Value::Object(fields) => fields,
        _ => panic!("no schema: {schema}"),
    };
    fields.iter().all(|(keyword, expected)| holds(root, fields, keyword, expected, value))
}

fn holds(
    root: &Value,
    fields: &Map<String, Value>,
    keyword: &str,
    expected: &Value,
    value: &Value,
) -> bool {
    let check = |schema: &Value, value: &Value| valid(root, schema, value);
    let each = || expected.as_array().unwrap().iter();
    let bound = || expected.as_f64().unwrap();
    match keyword {
        "$ref" => check(resolve(root, expected.as_str().unwrap()), value),
        "allOf" => each().all(|schema| check(schema, value)),
        "anyOf" => each().any(|schema| check(schema, value)),
        "oneOf" => each().filter(|schema| check(schema, value)).count() == 1,
        "const" => same(expected, value),
        "enum" => each().any(|expected| same(expected, value)),
        "type" => match expected {
            Value::Array(types) => types.iter().any(|name| is_of(name.as_str().unwrap(), value)),
            name => is_of(name.as_str().unwrap(), value),
        },
        "minimum" => value.as_f64().is_none_or(|number| number >= bound()),
        "maximum" => value.as_f64().is_none_or(|number| number <= bound()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > bound()),
        "exclusiveMaximum" => value.as_f64().is_none_or(|number| number < bound()),
        "multipleOf" => value.as_f64().is_none_or(|number| {
            let times = number / bound();
            (times - times.round()).abs() < 1e-6 * times.abs().max(1.0)
        }),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 >= bound()),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 <= bound()),
        "pattern" => value.as_str().is_none_or(|text| matches(expected.as_str().unwrap(), text)),
        "format" => {
            value.as_str().is_none_or(|text| matches(format(expected.as_str().unwrap()), text))
        }
        "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= bound()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= bound()),
        "prefixItems" => {
            value.as_array().is_none_or(|items| each().zip(items).all(|(s, item)| check(s, item)))
        }
        "items" => value.as_array().is_none_or(|items| {
            let n_prefix = fields.get("prefixItems").map_or(0, |p| p.as_array().unwrap().len());
            items.iter().skip(n_prefix).all(|item| check(expected, item))
        }),
        "minProperties" => value.as_object().is_none_or(|object| object.len() as f64 >= bound()),
        "maxProperties" => value.as_object().is_none_or(|object| object.len() as f64 <= bound()),
        "required" => value
            .as_object()
            .is_none_or(|object| each().all(|name| object.contains_key(name.as_str().unwrap()))),
        "properties" => value.as_object().is_none_or(|object| {
            let schemas = expected.as_object().unwrap();
            object.iter().all(|(name, item)| schemas.get(name).is_none_or(|s| check(s, item)))
        }),
        "patternProperties" => value.as_object().is_none_or(|object| {
            expected.as_object().unwrap().iter().all(|(pattern, schema)| {
                object.iter().all(|(name, item)| !matches(pattern, name) || check(schema, item))
            })
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let named = |keyword| fields.get(keyword).and_then(Value::as_object);
            let is_named = |name: &String| {
                named("properties").is_some_and(|names| names.contains_key(name))
                    || named("patternProperties")
                        .is_some_and(|patterns| patterns.keys().any(|p| matches(p, name)))
            };
            object.iter().all(|(name, item)| is_named(name) || check(expected, item))
        }),
        "$defs" | "title" | "description" | "default" => true,
        _ => panic!("{keyword} is not supported"),
    }
}

fn resolve<'v>(root: &'v Value, reference: &str) -> &'v Value {
    root.pointer(reference.strip_prefix('#').unwrap()).unwrap()
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => panic!("no type: {name}"),
    }
}

/// Equality by value: 1 is 1.0.
fn same(x: &Value, y: &Value) -> bool {
    match (x, y) {
        (Value::Number(x), Value::Number(y)) => x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            let found = |(name, value): (&String, _)| y.get(name).is_some_and(|y| same(value, y));
            x.len() == y.len() && x.iter().all(found)
        }
        _ => x == y,
    }
}

fn format(name: &str) -> &'static str {
    match name {
        "date" => r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
        "time" => {
            r"^([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([zZ]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
        }
        "ipv4" => r"^((25[0-5]|2[0-4]\d|1?\d?\d)(\.|$)){4}$",
        "uuid" => r"^[\da-fA-F]{8}(-[\da-fA-F]{4}){3}-[\da-fA-F]{12}$",
        "email" => r"^[^@ ]+@[^@ ]+$",
        _ => panic!("no format: {name}"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap().is_match(text).unwrap()
}

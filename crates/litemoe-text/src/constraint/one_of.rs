//! `oneOf` whose schemas exclude each other, which is then `anyOf`: the library does not look behind references.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Maximum references from one schema to another, and nesting of properties, that are followed.
const MAX_STEPS: usize = 8;

const TYPES: [&str; 6] = ["array", "boolean", "null", "number", "object", "string"];

/// Replaces `oneOf` by `anyOf` where no value can satisfy two of its schemas.
pub(super) fn relaxed(schema: &Value) -> Value {
    rewrite(schema, schema)
}

fn rewrite(root: &Value, value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| rewrite(root, item)).collect(),
        Value::Object(fields) => {
            let is_one_of = |name: &str| name == "oneOf" && !fields.contains_key("anyOf");
            let field = |(name, value): (&String, &Value)| {
                let name = match is_one_of(name) && excludes(root, value) {
                    true => "anyOf".to_owned(),
                    false => name.clone(),
                };
                let value = if is_data(&name) { value.clone() } else { rewrite(root, value) };
                (name, value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

/// Whether a field may be of a constant rather than of a schema. A property of this name is not rewritten either.
fn is_data(name: &str) -> bool {
    matches!(name, "const" | "enum")
}

fn excludes(root: &Value, schemas: &Value) -> bool {
    let Some(schemas) = schemas.as_array() else { return false };
    let pairs =
        schemas.iter().enumerate().flat_map(|(n, x)| schemas[..n].iter().map(move |y| (x, y)));
    schemas.len() <= 64 && pairs.into_iter().all(|(x, y)| disjoint(root, x, y, MAX_STEPS))
}

/// Whether it is certain that no value satisfies both schemas.
fn disjoint(root: &Value, x: &Value, y: &Value, steps: usize) -> bool {
    let (Some(x), Some(y)) = (resolved(root, x), resolved(root, y)) else { return false };
    if types(x).is_disjoint(&types(y)) {
        return true;
    }
    if let (Some(x), Some(y)) = (values(x), values(y)) {
        return x.iter().all(|x| y.iter().all(|y| certainly_differ(x, y)));
    }
    steps > 0 && (tells_apart(root, x, y, steps - 1) || tells_apart(root, y, x, steps - 1))
}

/// Whether `x` is of objects with a required property that `y` allows other values for.
fn tells_apart(root: &Value, x: &Map<String, Value>, y: &Map<String, Value>, steps: usize) -> bool {
    let property = |schema: &Map<String, Value>, name: &str| {
        schema.get("properties").and_then(|properties| properties.get(name)).cloned()
    };
    let required = x.get("required").and_then(Value::as_array).into_iter().flatten();
    types(x) == BTreeSet::from(["object"])
        && required.filter_map(Value::as_str).any(|name| {
            let both = property(x, name).zip(property(y, name));
            both.is_some_and(|(x, y)| disjoint(root, &x, &y, steps))
        })
}

/// The schema behind references.
fn resolved<'v>(root: &'v Value, mut schema: &'v Value) -> Option<&'v Map<String, Value>> {
    for _ in 0..MAX_STEPS {
        let fields = schema.as_object()?;
        let Some(reference) = fields.get("$ref").filter(|_| fields.len() == 1) else {
            return Some(fields);
        };
        let mut segments = reference.as_str()?.split('/').skip(1);
        schema = segments.try_fold(root, |value, segment| match value {
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
            value => value.get(segment),
        })?;
    }
    None
}

/// Types that values of a schema may have.
fn types(schema: &Map<String, Value>) -> BTreeSet<&'static str> {
    if let Some(values) = values(schema) {
        return values.into_iter().map(type_of).collect();
    }
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => TYPES.to_vec(),
    };
    let names = names.into_iter().map(|name| if name == "integer" { "number" } else { name });
    TYPES.into_iter().filter(|name| names.clone().any(|n| n == *name)).collect()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The values that a schema lists.
fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(values)) => Some(values.as_array()?.iter().collect()),
        (None, None) => None,
    }
}

fn certainly_differ(x: &Value, y: &Value) -> bool {
    match (x, y) {
        (Value::Number(x), Value::Number(y)) => x.as_f64() != y.as_f64(),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => false,
        _ => x != y,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_told_apart_by_types_values_and_required_properties() {
        let object = |name: &str, value: Value| json!({"type": "object", "properties": {name: value}, "required": [name]});
        let root = json!({"$defs": {"cat": object("kind", json!({"const": "cat"})), "loop": {"$ref": "#/$defs/loop"}}});
        let cat = json!({"$ref": "#/$defs/cat"});
        for (x, y) in [
            (json!({"type": "string"}), json!({"type": ["integer", "null"]})),
            (json!({"const": 1}), json!({"enum": [2, "1", null]})),
            (cat.clone(), object("kind", json!({"enum": ["dog", "cow"]}))),
            (cat.clone(), json!({"type": "object", "properties": {"kind": {"const": "dog"}}})),
            (cat.clone(), json!({"properties": {"kind": {"type": "null"}}})),
            (object("a", cat.clone()), object("a", json!({"type": "string"}))),
        ] {
            assert!(disjoint(&root, &x, &y, 8) && disjoint(&root, &y, &x, 8), "{x} {y}");
        }
        for (x, y) in [
            (json!({}), json!({"type": "string"})),
            (json!({"type": "integer"}), json!({"type": "number"})),
            (json!({"const": 1}), json!({"enum": [1.0]})),
            (json!({"const": [1]}), json!({"const": [2]})),
            (cat.clone(), object("kind", json!({"type": "string"}))),
            (cat.clone(), object("name", json!({"const": "dog"}))),
            (
                json!({"properties": {"k": {"const": 1}}}),
                json!({"properties": {"k": {"const": 2}}}),
            ),
            (
                json!({"required": ["k"], "properties": {"k": {"const": 1}}}),
                json!({"properties": {"k": {"const": 2}}}),
            ),
            (json!({"$ref": "#/$defs/loop"}), json!({"type": "string"})),
            (json!(true), json!({"type": "string"})),
        ] {
            assert!(!disjoint(&root, &x, &y, 8) && !disjoint(&root, &y, &x, 8), "{x} {y}");
        }
    }

    #[test]
    fn one_of_schemas_that_exclude_each_other_is_any_of() {
        let (string, number) = (json!({"type": "string"}), json!({"type": "number"}));
        let schema = json!({"items": {"oneOf": [string, number]}, "oneOf": [string, string]});
        let expected = json!({"items": {"anyOf": [string, number]}, "oneOf": [string, string]});
        assert_eq!(relaxed(&schema), expected);
        let both = json!({"anyOf": [string], "oneOf": [string, number]});
        assert_eq!(relaxed(&both), both);
    }
}

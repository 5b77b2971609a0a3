//! Check of a JSON schema (draft 2020-12, with `definitions` and lists of `items` as in older drafts) before it becomes a
//! grammar: every keyword is applied or refused by name.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::schema_values::{self, malformed};
use super::{GrammarError, one_of};

/// Maximum JSON values of a schema, names of fields and values of `enum` included.
const MAX_VALUES: usize = 20_000;

/// Maximum number of schemas: a chain of references takes 20 KiB of stack for each.
const MAX_SCHEMAS: usize = 2500;

/// Maximum nesting of schemas.
const MAX_DEPTH: usize = 64;

/// Keywords without effect on what is valid.
const ANNOTATIONS: [&str; 10] = [
    "$comment",
    "$schema",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// A schema without its annotations.
///
/// # Errors
/// The first keyword that is not supported or is malformed, and a schema that is too large.
pub(crate) fn checked(schema: &Value) -> Result<Value, GrammarError> {
    let mut check = Check::default();
    let schema = check.schema(schema, &mut Vec::new())?;
    match check.references.iter().find(|(_, target)| !check.places.contains(target)) {
        Some((at, target)) => {
            let expected = format!("the place of a schema: there is none at `{}`", pointer(target));
            Err(malformed("$ref", at, &expected))
        }
        None => Ok(one_of::relaxed(&schema)),
    }
}

#[derive(Default)]
struct Check {
    n_values: usize,
    /// Places of schemas.
    places: BTreeSet<Vec<String>>,
    /// Places of references, and theirs of targets.
    references: Vec<(String, Vec<String>)>,
}

impl Check {
    fn schema(&mut self, schema: &Value, place: &mut Vec<String>) -> Result<Value, GrammarError> {
        self.count(1)?;
        if self.places.len() >= MAX_SCHEMAS {
            return Err(GrammarError::TooLarge { what: "schemas", max: MAX_SCHEMAS });
        }
        if place.len() > 2 * MAX_DEPTH {
            return Err(GrammarError::TooLarge {
                what: "schemas inside each other",
                max: MAX_DEPTH,
            });
        }
        self.places.insert(place.clone());
        let fields = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(fields) => fields,
            _ => {
                return Err(malformed(
                    "",
                    &pointer(place),
                    "a JSON schema: an object or a boolean",
                ));
            }
        };
        schema_values::check_together(fields, &pointer(place))?;
        let mut kept = Map::new();
        for (keyword, value) in fields {
            if let Some(value) = self.keyword(keyword, value, place)? {
                kept.insert(keyword.clone(), value);
            }
        }
        Ok(Value::Object(kept))
    }

    /// The keyword's value as the grammar needs it; `None` if it has no effect.
    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        place: &mut Vec<String>,
    ) -> Result<Option<Value>, GrammarError> {
        place.push(keyword.to_owned());
        let kept = match keyword {
            "$id" | "id" if place.len() == 1 => None,
            "uniqueItems" if *value == false => None,
            _ if ANNOTATIONS.contains(&keyword) => None,
            "$ref" => Some(self.reference(value, place)?),
            "items" if value.is_array() => Some(self.list(value, place)?),
            "items" | "additionalItems" | "additionalProperties" => {
                Some(self.schema(value, place)?)
            }
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                Some(self.named(value, place)?)
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => Some(self.list(value, place)?),
            _ => {
                let at = pointer(&place[..place.len() - 1]);
                schema_values::check(keyword, value, &at)?;
                self.count(n_values(value))?;
                Some(value.clone())
            }
        };
        place.pop();
        Ok(kept)
    }

    fn named(&mut self, value: &Value, place: &mut Vec<String>) -> Result<Value, GrammarError> {
        let Some(schemas) = value.as_object() else {
            return Err(self.malformed_at(place, "an object of schemas"));
        };
        let mut kept = Map::new();
        for (name, schema) in schemas {
            self.count(1)?;
            let is_pattern = place.last().is_some_and(|keyword| keyword == "patternProperties");
            if is_pattern && !schema_values::is_closed_regex(name) {
                return Err(
                    self.malformed_at(place, "an object of regular expressions and schemas")
                );
            }
            place.push(name.clone());
            kept.insert(name.clone(), self.schema(schema, place)?);
            place.pop();
        }
        Ok(kept.into())
    }

    fn list(&mut self, value: &Value, place: &mut Vec<String>) -> Result<Value, GrammarError> {
        let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else {
            return Err(self.malformed_at(place, "a list of schemas"));
        };
        let mut kept = Vec::new();
        for (index, schema) in schemas.iter().enumerate() {
            place.push(index.to_string());
            kept.push(self.schema(schema, place)?);
            place.pop();
        }
        Ok(kept.into())
    }

    /// A reference to a place in the same document. The library splits it at each `/` without unescaping.
    fn reference(&mut self, value: &Value, place: &[String]) -> Result<Value, GrammarError> {
        let expected = "`#` or `#/` and a path in the same document";
        let written = value.as_str().and_then(|text| text.strip_prefix('#'));
        let target = written.and_then(|path| match path {
            "" => Some(Vec::new()),
            _ => path.strip_prefix('/')?.split('/').map(segment).collect(),
        });
        let Some(target) = target else { return Err(self.malformed_at(place, expected)) };
        if let Some(odd) = target.iter().find(|segment| segment.is_empty() || segment.contains('/'))
        {
            let expected = format!("without the name {odd:?}");
            return Err(self.malformed_at(place, &expected));
        }
        let raw = match target.is_empty() {
            true => "#".to_owned(),
            false => format!("#/{}", target.join("/")),
        };
        self.references.push((pointer(&place[..place.len() - 1]), target));
        Ok(raw.into())
    }

    fn malformed_at(&self, place: &[String], expected: &str) -> GrammarError {
        let (keyword, at) = place.split_last().map_or(("", &[][..]), |(last, at)| (last, at));
        malformed(keyword, &pointer(at), expected)
    }

    fn count(&mut self, n: usize) -> Result<(), GrammarError> {
        self.n_values += n;
        match self.n_values > MAX_VALUES {
            true => Err(GrammarError::TooLarge { what: "values", max: MAX_VALUES }),
            false => Ok(()),
        }
    }
}

/// A segment of a JSON pointer in a URI fragment.
fn segment(written: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = written.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let code = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(text.replace("~1", "/").replace("~0", "~"))
}

fn pointer(place: &[String]) -> String {
    let segments = place.iter().map(|s| format!("/{}", s.replace('~', "~0").replace('/', "~1")));
    format!("#{}", segments.collect::<String>())
}

fn n_values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(n_values).sum(),
        Value::Object(fields) => fields.values().map(|value| 1 + n_values(value)).sum(),
        _ => 0,
    }
}

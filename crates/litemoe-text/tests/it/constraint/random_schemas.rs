use std::sync::LazyLock;

use litemoe_core::Sampling;
use litemoe_text::{Finish, GrammarError, GrammarKind, Tokenizer};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::babble::Babbler;
use super::validator::is_valid;
use crate::dirs::{foundation, sentencepiece_ascii};

static FOUNDATION: LazyLock<Tokenizer> = LazyLock::new(foundation);
static SENTENCEPIECE: LazyLock<Tokenizer> = LazyLock::new(sentencepiece_ascii);

fn object(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(set.collect())
}

fn string() -> impl Strategy<Value = Value> {
    let length = (0u32..4, 0u32..5);
    let pattern = prop::sample::select(vec!["^a+b?$", "[0-9]{2}", "^(on|off)$", "x", r"^\w\d$"]);
    let format = prop::sample::select(vec!["date", "time", "ipv4", "uuid", "email"]);
    prop_oneof![
        Just(json!({"type": "string"})),
        (length, any::<[bool; 2]>()).prop_map(|((min, more), [has_min, has_max])| object([
            ("type", Some("string".into())),
            ("minLength", has_min.then(|| min.into())),
            ("maxLength", has_max.then(|| (min + more).into())),
        ])),
        pattern.prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        format.prop_map(|format| json!({"type": "string", "format": format})),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    let bounds = (-300i32..300, 0i32..500, any::<[bool; 4]>(), prop::sample::select(vec![1, 2, 7]));
    bounds.prop_map(|(min, more, [has_min, has_max, is_exclusive, is_whole], step)| {
        let (min_key, max_key) = match is_exclusive {
            true => ("exclusiveMinimum", "exclusiveMaximum"),
            false => ("minimum", "maximum"),
        };
        let scaled = |n: i32| match is_whole {
            true => json!(n),
            false => json!(f64::from(n) / 8.0),
        };
        object([
            ("type", Some(if is_whole { "integer" } else { "number" }.into())),
            (min_key, has_min.then(|| scaled(min))),
            (max_key, has_max.then(|| scaled(min + more))),
            ("multipleOf", (is_whole && step > 1).then(|| step.into())),
        ])
    })
}

fn constant() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(-7),
        json!(2.5),
        json!("a\"b\\\n é"),
        json!(""),
        json!([1, "a", []]),
        json!({"k": {"l": null}, "m": [false]}),
    ])
}

fn leaf() -> impl Strategy<Value = Value> {
    let types = ["null", "boolean", "integer", "number", "string", "array", "object"];
    prop_oneof![
        3 => string(),
        3 => number(),
        1 => constant().prop_map(|value| json!({"const": value})),
        1 => prop::collection::vec(constant(), 1..4).prop_map(|values| json!({"enum": values})),
        1 => prop::sample::subsequence(types.to_vec(), 1..4).prop_map(|types| json!({"type": types})),
        1 => Just(json!({"$ref": "#/$defs/tree"})),
        1 => Just(json!({"$ref": "#/$defs/leaf"})),
        1 => Just(json!({})),
    ]
}

/// The `patternProperties` and `additionalProperties` of an object.
fn others(schema: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let kind = (0..4usize, schema, any::<bool>());
    kind.prop_map(|(kind, schema, has_pattern)| {
        let mut fields = Map::new();
        match kind {
            0 => drop(fields.insert("additionalProperties".into(), schema.clone())),
            1 => {}
            _ => drop(fields.insert("additionalProperties".into(), false.into())),
        }
        if has_pattern {
            fields.insert("patternProperties".into(), json!({"^x_": schema}));
        }
        fields
    })
}

fn schema() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 24, 4, |inner| {
        let names = prop::sample::subsequence(vec!["a", "b c", "é\"", "", "x_y", "key/~1"], 0..5);
        let properties = names.prop_flat_map({
            let inner = inner.clone();
            move |names| {
                let n = names.len();
                let schemas = prop::collection::vec(inner.clone(), n);
                (Just(names), schemas, prop::collection::vec(any::<bool>(), n))
            }
        });
        let objects = (properties, others(inner.clone()), any::<bool>()).prop_map(
            |((names, schemas, required), others, is_counted)| {
                let required: Vec<_> =
                    names.iter().zip(required).filter(|(_, r)| *r).map(|(name, _)| *name).collect();
                let n = required.len();
                let properties: Map<_, _> =
                    names.iter().map(|name| (*name).to_owned()).zip(schemas).collect();
                let mut schema = json!({"type": "object", "properties": properties, "required": required});
                schema.as_object_mut().unwrap().extend(others);
                if is_counted {
                    schema["minProperties"] = n.into();
                }
                schema
            },
        );
        let arrays = (inner.clone(), prop::collection::vec(inner.clone(), 0..3), 0..3usize, 0..3usize)
            .prop_map(|(items, prefix, min, more)| {
                let mut schema = json!({"type": "array", "items": items, "minItems": min, "maxItems": min + more});
                if !prefix.is_empty() {
                    schema["prefixItems"] = prefix.into();
                }
                schema
            });
        let several = prop::collection::vec(inner, 1..4);
        prop_oneof![
            3 => objects,
            2 => arrays,
            1 => several.clone().prop_map(|schemas| json!({"anyOf": schemas})),
            1 => several.clone().prop_map(|schemas| json!({"allOf": schemas})),
            1 => several.prop_map(|schemas| json!({"oneOf": schemas})),
        ]
    })
}

fn whole() -> impl Strategy<Value = Value> {
    schema().prop_map(|mut schema| {
        schema["title"] = "a schema".into();
        schema["$defs"] = json!({
            "leaf": {"type": "boolean", "description": "on or off"},
            "tree": {"type": "object", "properties": {
                "value": {"$ref": "#/$defs/leaf"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
                "required": ["value"], "additionalProperties": false},
        });
        schema
    })
}

/// Whether a text is JSON with a number beyond the range of `f64`, which is no value here.
fn is_beyond_range(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}

fn check(tokenizer: &Tokenizer, schema: &Value, seed: u64, temperature: f32) {
    let kind = GrammarKind::JsonSchema(schema.clone());
    let grammar = match tokenizer.grammar(&kind) {
        Ok(grammar) => grammar,
        // Nothing satisfies it, or its schemas cannot be combined.
        Err(GrammarError::Refused { .. }) => return,
        Err(error) => panic!("{schema}: {error}"),
    };
    let sampling = Sampling { temperature, seed, ..Sampling::default() };
    let babbler = Babbler::new(tokenizer, seed);
    let text = babbler.generate(tokenizer, Some(&grammar), &sampling, 400).unwrap();
    if text.finish != Finish::EndToken {
        return;
    }
    let value: Value = match serde_json::from_str(&text.text) {
        Ok(value) => value,
        Err(error) if is_beyond_range(&error) => return,
        Err(error) => panic!("{schema}: {error}: {:?}", text.text),
    };
    assert!(is_valid(schema, &value), "{schema} does not accept {}", text.text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_babbler_says_by_a_schema_is_valid(schema in whole(), seed: u64, is_hot: bool) {
        check(&FOUNDATION, &schema, seed, if is_hot { 1.0 } else { 0.0 });
    }

    #[test]
    fn what_it_says_in_another_vocabulary_is_valid_too(schema in whole(), seed: u64) {
        check(&SENTENCEPIECE, &schema, seed, 1.0);
    }
}

#[test]
fn most_schemas_become_grammars_and_most_texts_end() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut n_grammars, mut n_ended) = (0, 0);
    for seed in 0..100 {
        let schema = whole().new_tree(&mut runner).unwrap().current();
        let Ok(grammar) = FOUNDATION.grammar(&GrammarKind::JsonSchema(schema)) else { continue };
        n_grammars += 1;
        let babbler = Babbler::new(&FOUNDATION, seed);
        let text =
            babbler.generate(&FOUNDATION, Some(&grammar), &Sampling::default(), 400).unwrap();
        n_ended += usize::from(text.finish == Finish::EndToken);
    }
    assert!(n_grammars >= 75, "{n_grammars} grammars");
    assert!(n_ended * 10 >= n_grammars * 9, "{n_ended} of {n_grammars} texts ended");
}

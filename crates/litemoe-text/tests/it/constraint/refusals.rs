use std::time::{Duration, Instant};

use litemoe_core::Sampling;
use litemoe_text::{GrammarError, GrammarKind};
use serde_json::{Value, json};

use super::babble::Babbler;
use crate::dirs::{foundation, with_config};

fn refusal(schema: &Value) -> GrammarError {
    foundation().grammar(&GrammarKind::JsonSchema(schema.clone())).expect_err(&schema.to_string())
}

#[test]
fn a_keyword_that_is_not_supported_is_named_with_its_place() {
    for (keyword, value) in [
        ("not", json!({})),
        ("if", json!({})),
        ("then", json!({})),
        ("dependentRequired", json!({})),
        ("uniqueItems", json!(true)),
        ("contains", json!({})),
        ("propertyNames", json!({})),
        ("unevaluatedProperties", json!(false)),
        ("$dynamicRef", json!("#a")),
        ("$anchor", json!("a")),
        ("$id", json!("a")),
        ("nullable", json!(true)),
        ("x-guidance", json!({"lenient": true})),
        ("maxlength", json!(3)),
    ] {
        let schema = json!({"type": "object", "properties": {"a/b": {"type": "array", "items": {keyword: value}}}});
        match refusal(&schema) {
            GrammarError::UnsupportedKeyword { keyword: found, at, .. } => {
                assert_eq!((&*found, &*at), (keyword, "#/properties/a~1b/items"));
            }
            error => panic!("{keyword}: {error}"),
        }
    }
    let error = refusal(&json!({"minProperties": 2, "properties": {"a": {}, "b": {}}}));
    assert!(error.to_string().contains("`minProperties` at `#`"), "{error}");
    assert!(error.to_string().contains("closed objects"), "{error}");
}

#[test]
fn malformed_schemas_are_refused_with_what_was_expected() {
    for (schema, keyword) in [
        (json!("a"), ""),
        (json!({"type": "int"}), "type"),
        (json!({"type": []}), "type"),
        (json!({"properties": []}), "properties"),
        (json!({"items": 1}), ""),
        (json!({"anyOf": []}), "anyOf"),
        (json!({"anyOf": {}}), "anyOf"),
        (json!({"enum": []}), "enum"),
        (json!({"enum": [9007199254740993u64]}), "enum"),
        (json!({"const": {"a": [u64::MAX]}}), "const"),
        (json!({"minimum": "1"}), "minimum"),
        (json!({"minimum": 1, "exclusiveMinimum": true}), "exclusiveMinimum"),
        (json!({"maximum": i64::MAX}), "maximum"),
        (json!({"multipleOf": 0}), "multipleOf"),
        (json!({"minLength": -1}), "minLength"),
        (json!({"maxItems": 1.5}), "maxItems"),
        (json!({"maxLength": 100_001}), "maxLength"),
        (json!({"pattern": "a\\"}), "pattern"),
        (json!({"patternProperties": {"a\\": {}}}), "patternProperties"),
        (json!({"required": "a"}), "required"),
        (json!({"format": 1}), "format"),
        (json!({"$ref": "other.json"}), "$ref"),
        (json!({"$ref": "#a"}), "$ref"),
        (json!({"$ref": "#/$defs/a"}), "$ref"),
        (json!({"$ref": "#/default", "default": {}}), "$ref"),
        (json!({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {}}}), "$ref"),
    ] {
        match refusal(&schema) {
            GrammarError::Schema { keyword: found, .. } => assert_eq!(found, keyword, "{schema}"),
            error => panic!("{schema}: {error}"),
        }
    }
}

#[test]
fn what_nothing_satisfies_or_the_library_lacks_is_refused() {
    for (schema, reason) in [
        (json!(false), "accepts nothing"),
        (json!({"type": "string", "minLength": 3, "maxLength": 2}), "minLength"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "minimum"),
        (
            json!({"type": "object", "required": ["a"], "additionalProperties": false}),
            "required property",
        ),
        (json!({"format": "color"}), "color"),
        (json!({"type": "string", "pattern": "(?=a)"}), "look"),
        (json!({"oneOf": [{"type": "integer"}, {"minimum": 3, "type": "integer"}]}), "oneOf"),
        (json!({"allOf": [{"type": "string"}, {"type": "null"}]}), "nsatisfiable"),
    ] {
        let error = refusal(&schema);
        assert!(matches!(error, GrammarError::Refused { .. }), "{schema}: {error}");
        assert!(error.to_string().contains(reason), "{schema}: {error}");
        assert!(error.to_string().len() < 400, "{error}");
    }
}

#[test]
fn large_schemas_are_refused_and_costly_ones_take_bounded_time() {
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({"items": deep});
    }
    let many: Vec<_> = (0..30_000).map(|n| n.to_string()).collect();
    let wide: Vec<_> = (0..2600).map(|_| json!(true)).collect();
    for schema in [deep, json!({"enum": many}), json!({"anyOf": wide})] {
        assert!(matches!(refusal(&schema), GrammarError::TooLarge { .. }));
    }
    let chain = |n: usize| -> Value {
        let name = |n: usize| format!("a{n}");
        let link = |n| (name(n), json!({"items": {"$ref": format!("#/$defs/a{}", n + 1)}}));
        let mut links: serde_json::Map<_, _> = (0..n).map(link).collect();
        links.insert(name(n), json!(true));
        json!({"$defs": links, "$ref": "#/$defs/a0"})
    };
    let product = |n: usize| {
        let any = |i: usize| json!({"anyOf": (0..8).map(|k| json!({"properties": {format!("p{i}{k}"): {"type": "string"}}})).collect::<Vec<_>>()});
        json!({"allOf": (0..n).map(any).collect::<Vec<_>>()})
    };
    let names = |n: usize| {
        let properties: serde_json::Map<_, _> =
            (0..n).map(|n| (format!("name{n}"), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": properties})
    };
    let tokenizer = foundation();
    for schema in [
        chain(1200),
        product(4),
        product(9),
        names(2400),
        json!({"enum": (0..9000).map(|n| format!("choice {n}")).collect::<Vec<_>>()}),
        json!({"type": "string", "minLength": 50_000, "maxLength": 100_000}),
        json!({"type": "array", "minItems": 50_000, "maxItems": 100_000, "items": {"type": "array", "maxItems": 100_000}}),
        json!({"type": "string", "pattern": "^(a|b)*a(a|b){200}$"}),
        json!({"type": "string", "pattern": "^((a{1,99}){1,99}){1,99}$"}),
        json!({"oneOf": (0..300).map(|n| json!({"properties": {"k": {"const": n.to_string()}}, "required": ["k"]})).collect::<Vec<_>>()}),
    ] {
        let start = Instant::now();
        let grammar = tokenizer.grammar(&GrammarKind::JsonSchema(schema.clone()));
        if let Ok(grammar) = &grammar {
            // It may reach its limit of work.
            let babbler = Babbler::new(&tokenizer, 1);
            let _ = babbler.generate(&tokenizer, Some(grammar), &Sampling::default(), 100);
        }
        let took = start.elapsed();
        assert!(
            took < Duration::from_secs(10),
            "{took:?} {:?}: {:.200}",
            grammar.is_ok(),
            schema.to_string()
        );
    }
}

#[test]
fn a_vocabulary_without_end_tokens_has_no_grammars() {
    let dir = with_config(&json!({}));
    let tokenizer = litemoe_text::Tokenizer::from_dir(dir.path()).unwrap();
    assert!(tokenizer.end_ids().is_empty());
    assert_eq!(tokenizer.grammar(&GrammarKind::JsonObject).unwrap_err(), GrammarError::NoEndToken);
}

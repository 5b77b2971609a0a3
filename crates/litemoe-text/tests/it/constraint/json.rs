use litemoe_core::{Sampling, TokenConstraint};
use litemoe_text::{Finish, Grammar, GrammarKind, Tokenizer};
use serde_json::{Value, json};

use super::babble::Babbler;
use super::validator::is_valid;
use crate::dirs::{foundation, sentencepiece_ascii, word_piece_ascii};

fn tokenizers() -> [Tokenizer; 3] {
    [foundation(), sentencepiece_ascii(), word_piece_ascii()]
}

/// Whether a text and its end are allowed.
pub(crate) fn allows(tokenizer: &Tokenizer, grammar: &Grammar, text: &str) -> bool {
    let mut constraint = grammar.constraint();
    let tokens = tokenizer.encode_text(text).unwrap();
    tokens.iter().all(|&token| {
        constraint.allowed().is_ok_and(|allowed| allowed.contains(token))
            && constraint.accept(token).is_ok()
    }) && constraint.may_end().unwrap()
}

#[test]
fn a_json_object_is_said() {
    for tokenizer in tokenizers() {
        let grammar = tokenizer.grammar(&GrammarKind::JsonObject).unwrap();
        for seed in 0..20 {
            let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
            let babbler = Babbler::new(&tokenizer, seed);
            let text = babbler.generate(&tokenizer, Some(&grammar), &sampling, 400).unwrap();
            if text.finish == Finish::EndToken {
                let value: Value = serde_json::from_str(&text.text).unwrap();
                assert!(value.is_object(), "{value}");
            }
        }
    }
}

#[test]
fn a_schema_allows_what_it_accepts_and_no_more() {
    let tokenizer = foundation();
    let schema = json!({
        "type": "object",
        "properties": {
            "room": {"type": "string", "enum": ["attic", "hall"]},
            "level": {"type": "integer", "minimum": 0, "maximum": 100},
            "note": {"type": ["string", "null"], "maxLength": 3},
        },
        "required": ["room", "level"],
        "additionalProperties": false,
    });
    let grammar = tokenizer.grammar(&GrammarKind::JsonSchema(schema.clone())).unwrap();
    for text in [
        r#"{"room":"attic","level":30}"#,
        r#"{"room": "hall", "level": 100, "note": "é\"a"}"#,
        r#"{"room": "hall", "level": 0, "note": null}"#,
        "{\n  \"room\": \"hall\",\n  \"level\": 7\n}",
        // The chat template puts a space before an answer.
        r#" {"room":"attic","level":30}"#,
    ] {
        assert!(is_valid(&schema, &serde_json::from_str(text.trim()).unwrap()));
        assert!(allows(&tokenizer, &grammar, text), "{text}");
    }
    for text in [
        "",
        r#"{"room":"attic","level":30"#,
        r#"{"room":"cellar","level":30}"#,
        r#"{"room":"attic","level":101}"#,
        r#"{"room":"attic","level":030}"#,
        r#"{"room":"attic"}"#,
        r#"{"room":"attic","level":1,"other":1}"#,
        r#"{"room":"attic","level":1,"note":"four"}"#,
        r#"{"room":"attic","level":1}}"#,
        r#"{"room":"attic","level":1}<|user|>"#,
        r#"  {"room":"attic","level":30}"#,
    ] {
        assert!(!allows(&tokenizer, &grammar, text), "{text}");
    }
}

#[test]
fn names_are_not_written_twice_by_escapes() {
    let tokenizer = foundation();
    let schema = json!({"properties": {"a": {"type": "integer"}}});
    let grammar = tokenizer.grammar(&GrammarKind::JsonSchema(schema)).unwrap();
    assert!(allows(&tokenizer, &grammar, r#"{"a":1,"b":"x"}"#));
    assert!(!allows(&tokenizer, &grammar, r#"{"a":1,"\u0061":"x"}"#));
}

#[test]
fn schemas_of_generators_become_grammars() {
    let tokenizer = foundation();
    // As of pydantic, zod and TypeScript.
    let pydantic = json!({
        "$defs": {
            "Pet[Cat]": {"title": "Pet[Cat]", "type": "object", "required": ["kind"],
                "properties": {"kind": {"const": "cat", "title": "Kind", "type": "string"}}},
            "Dog": {"type": "object", "required": ["kind"],
                "properties": {"kind": {"const": "dog", "type": "string"}, "age": {"type": "integer", "default": 1}}},
        },
        "properties": {
            "pet": {"discriminator": {"propertyName": "kind"}, "oneOf": [{"$ref": "#/$defs/Pet%5BCat%5D"}, {"$ref": "#/$defs/Dog"}]},
            "tags": {"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"type": "null"}], "default": null},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "minItems": 2, "maxItems": 2},
        },
        "required": ["pet", "pair"], "title": "Answer", "type": "object",
    });
    let zod = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "properties": {"next": {"$ref": "#"}, "at": {"type": "string", "format": "date-time"}},
        "required": ["at"], "additionalProperties": false,
    });
    let older = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"Id<string>": {"type": "string", "pattern": "^[a-z]+$"}},
        "type": "array", "items": [{"$ref": "#/definitions/Id%3Cstring%3E"}, {"type": "number"}], "additionalItems": false,
    });
    for (schema, text) in [
        (&pydantic, r#"{"pet":{"kind":"dog","age":3},"tags":null,"pair":[1,true]}"#),
        (&zod, r#"{"next":{"at":"2026-01-01T00:00:00Z"},"at":"2026-01-01T00:00:00Z"}"#),
        (&older, r#"["abc", -1.5e3]"#),
    ] {
        let grammar = tokenizer.grammar(&GrammarKind::JsonSchema(schema.clone())).unwrap();
        assert!(allows(&tokenizer, &grammar, text), "{text}");
    }
}

#[test]
fn a_greedy_text_that_is_allowed_stays() {
    let tokenizer = foundation();
    let grammar = tokenizer.grammar(&GrammarKind::JsonObject).unwrap();
    let mut n_kept = 0;
    for seed in 0..8 {
        let babbler = Babbler::new(&tokenizer, seed);
        let plain = Sampling::default();
        let constrained = babbler.generate(&tokenizer, Some(&grammar), &plain, 300).unwrap();
        // The same model, to which what it said is the most probable.
        let insisting = Babbler::insisting(&tokenizer, seed, &constrained.tokens);
        let free = insisting.generate(&tokenizer, None, &plain, 300).unwrap();
        assert_eq!(free, constrained);
        assert_eq!(insisting.generate(&tokenizer, Some(&grammar), &plain, 300).unwrap(), free);
        n_kept += free.tokens.len();
    }
    assert!(n_kept > 60, "{n_kept} tokens");
}

#[test]
fn texts_of_one_grammar_are_independent_and_one_seed_gives_one_text() {
    let tokenizer = foundation();
    let grammar = tokenizer.grammar(&GrammarKind::JsonObject).unwrap();
    let sampling =
        Sampling { temperature: 1.0, top_k: 40, top_p: 0.9, seed: 3, ..Sampling::default() };
    let babbler = Babbler::new(&tokenizer, 3);
    let text = || babbler.generate(&tokenizer, Some(&grammar), &sampling, 200).unwrap();
    let first = text();
    assert_eq!(first, text());
    let mut one = grammar.constraint();
    let mut n = 0;
    for &token in first.tokens.iter().take(9) {
        // A copy goes another way.
        let mut other = one.clone();
        let allowed = other.allowed().unwrap();
        assert!(allowed.contains(token));
        let another = (0..tokenizer.vocab() as u32).rev().find(|&t| allowed.contains(t)).unwrap();
        other.accept(another).unwrap();
        assert_eq!(one.allowed().unwrap(), allowed);
        one.accept(token).unwrap();
        n += 1;
    }
    assert_eq!(n, 9);
}

#[test]
fn a_text_may_end_exactly_where_its_grammar_does() {
    let tokenizer = foundation();
    let grammar = tokenizer.grammar(&GrammarKind::JsonSchema(json!({"type": "integer"}))).unwrap();
    let mut constraint = grammar.constraint();
    let end = *tokenizer.end_ids().first().unwrap();
    let mut ends = Vec::new();
    for token in tokenizer.encode_text("-12").unwrap() {
        ends.push(constraint.allowed().unwrap().contains(end));
        constraint.accept(token).unwrap();
    }
    ends.push(constraint.allowed().unwrap().contains(end));
    assert!(!ends[0] && *ends.last().unwrap(), "{ends:?}");
    constraint.accept(end).unwrap();
    assert!(constraint.is_over());
    let allowed = constraint.allowed().unwrap();
    assert!(allowed.contains(end) && allowed.len() == tokenizer.end_ids().len());
}

use std::time::{Duration, Instant};

use litemoe_core::TokenConstraint;
use litemoe_text::{GrammarKind, Tokenizer};
use serde_json::json;

use crate::dirs::{foundation, with_files};

/// A byte-level vocabulary of 150 000 words of random letters, most of them after a space.
fn large() -> Tokenizer {
    let mut state = 1u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let file = std::fs::read(litemoe_fixtures::foundation_dir().join("tokenizer.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    let letters = b"etaoinshrdlucmfwypvbgkjqxzETAOINS0123456789_.,:;{}[]()<>=+-*/\"'";
    while vocab.len() < 150_000 {
        let mut word = String::from(if random(3) > 0 { "Ġ" } else { "" });
        for _ in 0..2 + random(9) {
            let among = if random(12) == 0 { letters.len() } else { 20 };
            word.push(char::from(letters[random(among)]));
        }
        let id = vocab.len() + 8;
        vocab.entry(word).or_insert_with(|| id.into());
    }
    let config = json!({"eos_token": "<|endoftext|>"}).to_string();
    let file = file.to_string();
    let files = [("tokenizer.json", file.as_bytes()), ("tokenizer_config.json", config.as_bytes())];
    Tokenizer::from_dir(with_files(&files).path()).unwrap()
}

#[test]
fn a_step_takes_microseconds() {
    let schema = json!({
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
            "size": {"type": "object", "properties": {"w": {"type": "number"}, "h": {"type": "integer", "minimum": 1}},
                "required": ["w", "h"]},
            "note": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
        },
        "required": ["title", "tags", "size"],
    });
    let text = r#"{"title": "The quick brown fox jumps over the lazy dog, twice", "tags": ["red", "blue"],
        "size": {"w": 12.5, "h": 7}, "note": "nothing to be added here, and nothing to be removed", "more": [1, {"a": null}]}"#;
    for (tokenizer, limit) in [(foundation(), 200), (large(), 500)] {
        let grammar = tokenizer.grammar(&GrammarKind::JsonSchema(schema.clone())).unwrap();
        let tokens = tokenizer.encode_text(text).unwrap();
        let mut times = Vec::new();
        for _ in 0..5 {
            let mut constraint = grammar.constraint();
            for &token in &tokens {
                let start = Instant::now();
                assert!(constraint.allowed().unwrap().contains(token));
                times.push(start.elapsed());
                constraint.accept(token).unwrap();
            }
        }
        times.sort();
        let (n, median, most) =
            (tokenizer.vocab(), times[times.len() / 2], times[times.len() * 19 / 20]);
        assert!(median < Duration::from_micros(limit), "{n} tokens: median {median:?}");
        assert!(most < Duration::from_micros(20 * limit), "{n} tokens: 95 % within {most:?}");
    }
}

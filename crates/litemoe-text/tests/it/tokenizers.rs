//! Tokenizers of several files and classes against transformers 5.23, whose `AutoTokenizer.from_pretrained(directory)`
//! made the ids in `golden/tokenizers.json` with `tokenizer(text, add_special_tokens=False)`. The small tokenizers in
//! that file were trained for it by the library `tokenizers` 0.23.3.

use std::collections::BTreeMap;

use litemoe_text::{TextError, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dirs::with_files;
use crate::vocabularies;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    tokenizers: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    tokenizer: String,
    files: BTreeMap<String, Value>,
    /// Tokens of each text.
    ids: Vec<Vec<u32>>,
}

fn dir(tokenizer: &Value, files: &BTreeMap<String, Value>) -> TempDir {
    let texts: Vec<_> =
        files.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect();
    let tokenizer = tokenizer.to_string();
    let mut all = vec![("tokenizer.json", tokenizer.as_bytes())];
    all.extend(texts.iter().map(|(name, text)| (*name, text.as_bytes())));
    with_files(&all)
}

#[test]
fn tokenizers_of_several_files_and_classes_equal_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("golden/tokenizers.json")).unwrap();
    assert!(golden.cases.len() >= 50);
    for case in golden.cases {
        let dir = dir(&golden.tokenizers[&case.tokenizer], &case.files);
        let tokenizer = Tokenizer::from_dir(dir.path())
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        for (text, ids) in golden.texts.iter().zip(&case.ids) {
            assert_eq!(&tokenizer.encode_text(text).unwrap(), ids, "{}: {text:?}", case.name);
        }
    }
}

#[test]
fn classes_and_tokens_that_cannot_be_equalled_are_refused_by_name() {
    let refused = |file: &str, value: Value| {
        let dir = dir(&vocabularies::byte_level(), &[(file.to_owned(), value)].into());
        Tokenizer::from_dir(dir.path()).unwrap_err()
    };
    for (class, name) in [
        (json!({ "tokenizer_class": "BertTokenizerFast" }), "BertTokenizer"),
        (json!({ "tokenizer_class": "MyTokenizer" }), "MyTokenizer"),
        (json!({ "auto_map": { "AutoTokenizer": ["a.B", null] } }), "own code"),
    ] {
        let error = refused("tokenizer_config.json", class);
        assert!(
            matches!(&error, TextError::TokenizerClass { class, .. } if class.contains(name)),
            "{error}"
        );
    }
    let error = refused("tokenizer_config.json", json!({ "tokenizer_class": "T5Tokenizer" }));
    assert!(
        matches!(&error, TextError::Malformed { file, reason }
            if file.ends_with("tokenizer.json") && reason.contains("Unigram")),
        "{error}"
    );
    let error = refused("tokenizer_config.json", json!({ "tokenizer_class": "Qwen2Tokenizer" }));
    assert!(
        matches!(&error, TextError::UnknownToken { token } if token == "<|endoftext|>"),
        "{error}"
    );
    for (file, value, key) in [
        ("tokenizer_config.json", json!({ "eos_token": 3 }), "eos_token"),
        ("tokenizer_config.json", json!({ "eos_token": { "content": "a", "flags": 1 } }), "flags"),
        (
            "tokenizer_config.json",
            json!({ "added_tokens_decoder": { "x": {} } }),
            "added_tokens_decoder",
        ),
        ("tokenizer_config.json", json!({ "extra_special_tokens": "a" }), "extra_special_tokens"),
        (
            "tokenizer_config.json",
            json!({ "additional_special_tokens": [1] }),
            "extra_special_tokens",
        ),
        ("special_tokens_map.json", json!({ "pad_token": 1 }), "pad_token"),
        ("added_tokens.json", json!({ "a": "b" }), "invalid type"),
        ("special_tokens_map.json", json!([]), "invalid type"),
    ] {
        let error = refused(file, value);
        assert!(
            matches!(&error, TextError::Malformed { reason, .. } if reason.contains(key)),
            "{error}"
        );
    }
}

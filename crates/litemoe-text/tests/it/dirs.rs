//! Temporary model directories.

use std::fs;

use litemoe_text::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::vocabularies;

/// The fixture foundation's tokenizer with another `tokenizer_config.json`.
pub(crate) fn with_config(config: &Value) -> TempDir {
    let tokenizer = fs::read(litemoe_fixtures::foundation_dir().join("tokenizer.json")).unwrap();
    with_files(&[
        ("tokenizer.json", &tokenizer),
        ("tokenizer_config.json", config.to_string().as_bytes()),
    ])
}

pub(crate) fn with_files(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

pub(crate) fn foundation() -> Tokenizer {
    Tokenizer::from_dir(litemoe_fixtures::foundation_dir()).unwrap()
}

/// The foundation's tokenizer without its chat template.
pub(crate) fn foundation_without_template() -> Tokenizer {
    let dir = with_config(&json!({ "eos_token": "<|endoftext|>" }));
    Tokenizer::from_dir(dir.path()).unwrap()
}

/// The foundation's vocabulary, whose tokens 0 to 3 are special, with another chat template.
pub(crate) fn with_template(template: &str) -> Tokenizer {
    let config = json!({ "chat_template": template, "eos_token": "<|pad|>" });
    Tokenizer::from_dir(with_config(&config).path()).unwrap()
}

/// [`vocabularies::sentencepiece`], without a template.
pub(crate) fn sentencepiece() -> Tokenizer {
    without_template(&vocabularies::sentencepiece(), "</s>")
}

/// [`vocabularies::sentencepiece_ascii`], without a template.
pub(crate) fn sentencepiece_ascii() -> Tokenizer {
    without_template(&vocabularies::sentencepiece_ascii(), "</s>")
}

/// [`vocabularies::word_piece_ascii`], without a template.
pub(crate) fn word_piece_ascii() -> Tokenizer {
    without_template(&vocabularies::word_piece_ascii(), "[SEP]")
}

fn without_template(tokenizer: &Value, eos: &str) -> Tokenizer {
    let tokenizer = tokenizer.to_string();
    let config = json!({ "eos_token": { "content": eos, "lstrip": false } }).to_string();
    let files: [(&str, &[u8]); 2] =
        [("tokenizer.json", tokenizer.as_bytes()), ("tokenizer_config.json", config.as_bytes())];
    Tokenizer::from_dir(with_files(&files).path()).unwrap()
}

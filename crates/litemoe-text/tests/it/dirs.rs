//! Model directories made for a test.

use std::fs;

use litemoe_text::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// The foundation's vocabulary, whose tokens 0 to 3 are special, under another chat template.
pub(crate) fn with_template(template: &str) -> Tokenizer {
    let config = json!({ "chat_template": template, "eos_token": "<|pad|>" });
    Tokenizer::from_dir(with_config(&config).path()).unwrap()
}

/// A tokenizer in the style of SentencePiece: a first space is put before a text and taken off when decoding, unknown
/// characters become bytes, `<s>` begins a text. Tokens: `<s>` 0, `</s>` 1, bytes 2 to 257, then words and letters.
pub(crate) fn sentencepiece() -> Tokenizer {
    let mut tokens: Vec<String> = vec!["<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "a", "b", "c", "▁a", "▁b", "ab", "▁ab"].map(String::from));
    let vocab: serde_json::Map<_, _> =
        (0..).zip(tokens).map(|(id, token): (u32, _)| (token, json!(id))).collect();
    let added = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<s>"), added(1, "</s>")],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }]},
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }]},
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": [["▁", "a"], ["▁", "b"], ["a", "b"], ["▁a", "b"]] }
    });
    let files: [(&str, &[u8]); 2] = [
        ("tokenizer.json", &serde_json::to_vec(&tokenizer).unwrap()),
        ("tokenizer_config.json", br#"{"eos_token": {"content": "</s>", "lstrip": false}}"#),
    ];
    Tokenizer::from_dir(with_files(&files).path()).unwrap()
}

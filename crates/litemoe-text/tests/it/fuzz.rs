//! Fuzzed files and texts: each gives tokens, text or an error.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use litemoe_fixtures::fuzz::{Bound, fuzz, fuzz_json};
use litemoe_text::{ChatTemplate, Message, Prompt, Row, RowFile, TextError, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dirs::{foundation, with_files, with_template};
use crate::limits::{CONFIGURATION, PATTERNS, PROMPT, ROWS, TOKENIZER};
use crate::vocabularies;

/// Fragments of texts: edge cases of encodings and of tokenizers.
const TEXTS: &[&str] = &[
    " ",
    "  ",
    "\n\n",
    "\r",
    "\t",
    "a",
    "ab",
    "é",
    "e\u{301}",
    "\u{ad}",
    "\u{200d}",
    "\u{feff}",
    "\u{fffd}",
    "🙂",
    "👨‍👩‍👧",
    "中文",
    "ﬁ",
    "İ",
    "ß",
    "\u{fdfa}",
    "\u{10ffff}",
    "\u{0}",
    "1234567",
    "'s",
    "<0xE2>",
    "<s>",
    "</s>",
    "<|end|>",
    "<|user|>",
    "##b",
    "▁",
    "Ġ",
];

/// Fragments of templates.
const CODE: &[&str] = &[
    "messages",
    "messages[0]",
    "message",
    "loop",
    "loop.index0",
    "loop(messages)",
    "namespace()",
    "ns",
    "ns.x",
    "bos_token",
    "none",
    "range(99999)",
    "10**9",
    "-1",
    "''",
    "'x' * 999999",
    "[[], {}]",
    "[messages] * 999",
    "{'a': 1}",
    "(1, 2)",
    "messages[::-1]",
    "m.content | trim",
    "messages | tojson(indent=2)",
    "messages | join",
    "m['content'].split('a')",
    "'{:9}'.format(m)",
    "a == b",
    "raise_exception('no')",
    "strftime_now('%Y')",
    "m is defined",
    "m is mapping",
    "not m",
    "m in messages",
    "1 // 0",
    "x ~ y",
    "a ~ [1e16, 'b'] ~ m",
    "{{ 1 *\u{a0}b ~ .items }}",
    "\u{a0}",
    "\u{3000}",
    ".items",
    "{% with a = 1, b = a %}",
    "m.items",
    "m['keys']",
    "m.items()",
    "'\\x41\\'\\u00e9'",
    "messages | map(attribute='role')",
    "messages | selectattr('role', 'in', 'user')",
    "range(9)[1:]",
    "m.content.rsplit(maxsplit=1)",
    "m | tojson(indent=9, sort_keys=true)",
    "m.content.center(99)",
    "x | indent(3, blank=true)",
    "{{ messages }}",
    "{% endif %}",
    "{% for m in messages %}",
    "{% endfor %}",
    "{% set ns.x = [ns.x, ns.x] %}",
    "{% set x = ns %}",
    "{% macro f(x) %}",
    "{{ f([x, x]) }}",
    "{% endmacro %}",
    "{% generation %}",
    "{% raw %}",
    "{# ",
    "{%- break -%}",
    "%}",
    "}}",
];

/// Maximum bytes that a rendering may hold allocated.
const MAX_RENDERING: u64 = 256 << 20;

/// Overwrites a file in place: truncating and refilling a file is slow on some file systems.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// Round trip: encodes and decodes.
fn turn_around(tokenizer: &Tokenizer, text: &str) -> Result<String, TextError> {
    let ids = tokenizer.encode_text(text)?;
    let mut detokenizer = tokenizer.detokenizer();
    for &id in &ids {
        detokenizer.push(id)?;
    }
    detokenizer.finish()?;
    tokenizer.encode(&Row::new(text, text))?;
    tokenizer.decode(&ids)
}

fn vocabularies() -> [Value; 5] {
    [
        vocabularies::sentencepiece(),
        vocabularies::byte_level(),
        vocabularies::unigram(),
        vocabularies::word_piece(),
        vocabularies::word_level(),
    ]
}

fn dir_of(vocabulary: &Value) -> TempDir {
    let config = br#"{"eos_token": "a"}"#;
    let tokenizer = vocabulary.to_string();
    with_files(&[("tokenizer.json", tokenizer.as_bytes()), ("tokenizer_config.json", config)])
}

/// Reads fuzzed documents as one file of a tokenizer within a bound, and uses what is read.
fn check(
    dir: &Path,
    name: &str,
    documents: &[Vec<u8>],
    bound: impl Fn(&[u8]) -> Bound,
    texts: &[&str],
) {
    fs::write(dir.join(name), "").unwrap();
    let mut read = 0;
    fuzz_json(documents, |_, document| {
        overwrite(&dir.join(name), document);
        let mut tokenizer = None;
        let allocated = allocation_counter::measure(|| tokenizer = Tokenizer::from_dir(dir).ok());
        bound(document).check(document, allocated.bytes_max);
        let Some(tokenizer) = tokenizer else { return };
        read += 1;
        // Only termination matters.
        for text in texts {
            let _ = turn_around(&tokenizer, text);
        }
        let _ = tokenizer.decode(&[0, 4, u32::MAX, 1, 300]);
    });
    assert!(read > 0);
}

#[test]
fn fuzzed_tokenizers() {
    let documents = vocabularies().map(|vocabulary| vocabulary.to_string().into_bytes());
    let dir = dir_of(&vocabularies::sentencepiece());
    let texts = ["", "ab  É中1\n", "<s>a <unk>🙂</s>"];
    let bound = |document: &[u8]| match document.windows(5).any(|part| part == b"Regex") {
        true => PATTERNS,
        false => TOKENIZER,
    };
    check(dir.path(), "tokenizer.json", &documents, bound, &texts);
}

#[test]
fn fuzzed_tokenizer_configurations() {
    let documents = [litemoe_fixtures::foundation_dir(), litemoe_fixtures::tiny_dir()]
        .map(|dir| fs::read(dir.join("tokenizer_config.json")).unwrap());
    let dir = dir_of(&vocabularies::word_level());
    check(dir.path(), "tokenizer_config.json", &documents, |_| CONFIGURATION, &["a"]);
}

#[test]
fn fuzzed_special_tokens() {
    let flags = json!({ "content": "<s>", "lstrip": false, "normalized": true, "rstrip": false, "single_word": false });
    let map = json!({ "bos_token": flags, "eos_token": "</s>", "additional_special_tokens": ["<a>", flags],
        "extra_special_tokens": { "image_token": "<i>" } });
    let dir = dir_of(&vocabularies::sentencepiece());
    let documents = [map.to_string().into_bytes()];
    check(dir.path(), "special_tokens_map.json", &documents, |_| CONFIGURATION, &["a<i>"]);
}

#[test]
fn fuzzed_added_tokens() {
    let added = json!({ "<s>": 0, "<a>": 266, "<|b|>": 267, " c ": 268 });
    let dir = dir_of(&vocabularies::sentencepiece());
    let documents = [added.to_string().into_bytes()];
    check(dir.path(), "added_tokens.json", &documents, |_| CONFIGURATION, &["a<|b|> c "]);
}

#[test]
fn fuzzed_model_configurations_of_tokenizers() {
    let model = json!({ "model_type": "switch_transformers", "tokenizer_class": "T5Tokenizer", "eos_token_id": [1, 2],
        "is_encoder_decoder": true, "decoder_start_token_id": 0, "pad_token_id": 0, "layers": [{ "a": [0] }] });
    let generation = json!({ "eos_token_id": [1, 2], "transformers_version": "5.0" });
    let [model, generation] = [model, generation].map(|json| [json.to_string().into_bytes()]);
    let dir = dir_of(&vocabularies::unigram());
    check(dir.path(), "config.json", &model, |_| CONFIGURATION, &["a"]);
    fs::remove_file(dir.path().join("config.json")).unwrap();
    check(dir.path(), "generation_config.json", &generation, |_| CONFIGURATION, &["a"]);
}

#[test]
fn fuzzed_texts() {
    let mut tokenizers: Vec<Tokenizer> = vocabularies()
        .map(|vocabulary| Tokenizer::from_dir(dir_of(&vocabulary).path()).unwrap())
        .into();
    tokenizers.push(foundation());
    let documents = vec![format!("[{}]", TEXTS.join(",")).into_bytes(); tokenizers.len()];
    fuzz(&documents, TEXTS, |from, document| {
        let tokenizer = &tokenizers[from];
        let text = String::from_utf8_lossy(document);
        let _ = tokenizer.encode_text(&text);
        // Incremental decoding is quadratic if every character is invalid.
        let _ = turn_around(tokenizer, &text[..text.floor_char_boundary(400)]);
        let ids = document.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id));
        tokenizer.decode(&ids.take(100).collect::<Vec<_>>()).unwrap();
        let small = document.iter().map(|&byte| byte.into());
        tokenizer.decode(&small.take(400).collect::<Vec<_>>()).unwrap();
    });
}

#[test]
fn fuzzed_templates() {
    let golden: Value = serde_json::from_str(include_str!("golden/templates.json")).unwrap();
    let documents: Vec<Vec<u8>> = golden["templates"]
        .as_object()
        .unwrap()
        .values()
        .map(|template| template.as_str().unwrap().as_bytes().to_vec())
        .collect();
    let conversation = [Message::user(" hi\n"), Message::assistant("<think>so</think> well")];
    let mut rendered = 0;
    fuzz(&documents, CODE, |_, document| {
        let source = String::from_utf8_lossy(document);
        let allocated = allocation_counter::measure(|| {
            let Ok(template) = ChatTemplate::new(&source, BTreeMap::new()) else { return };
            rendered += usize::from(template.render(&conversation, true).is_ok());
        });
        assert!(allocated.bytes_max <= MAX_RENDERING, "{} bytes", allocated.bytes_max);
    });
    assert!(rendered > 0);
}

#[test]
fn fuzzed_rows() {
    let pair =
        br#"{"prompt": "a \ud83d\ude42", "completion": "b", "label": "c", "references": ["d"]}"#;
    let messages = r#"{"messages": [{"role": "system", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": "b", "weight": 1}, {"role": "assistant", "content": null, "tool_calls": [{"function":
        {"name": "f", "arguments": "{\"a\": 1}"}}]}], "tools": "[{\"name\": \"f\"}]"}"#;
    let turns = r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value":
        "{\"name\": \"f\"}"}], "system": "b"}"#;
    let [messages, turns] = [messages, turns].map(|row| row.replace('\n', " ").into_bytes());
    let documents = [
        pair.to_vec(),
        [&pair[..], pair].join(&b'\n'),
        [&b"["[..], pair, b",\n", pair, b"]"].concat(),
        messages,
        turns,
        b"instruction,input,output,history\n\"a \"\"b\"\"\n\",c,d,[]\n".to_vec(),
        "\u{feff}{\"text\": \"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ];
    let dir = with_files(&[("rows.jsonl", pair)]);
    let path = dir.path().join("rows.jsonl");
    let tokenizer = foundation();
    let mut read = vec![0; documents.len()];
    fuzz_json(&documents, |from, document| {
        overwrite(&path, document);
        let mut file = None;
        let allocated = allocation_counter::measure(|| file = RowFile::read(&path).ok());
        ROWS.check(document, allocated.bytes_max);
        if let Some(file) = file {
            read[from] += 1;
            let _ = tokenizer.encode(&file.rows[0]);
        }
    });
    assert!(read.iter().all(|&read| read > 0), "{read:?}");
}

/// Conversations to answer are rendered by a template that prints all parts.
#[test]
fn fuzzed_prompts() {
    let messages = json!([{ "role": "system", "content": "a" }, { "role": "user", "content":
        [{ "type": "text", "text": "b" }] }, { "role": "assistant", "content": null, "tool_calls": [{ "id": "1",
        "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } }] },
        { "role": "tool", "tool_call_id": "1", "content": "c" }]);
    let whole = json!({ "messages": messages, "tools": [{ "type": "function", "function": { "name": "f" } }],
        "documents": [{ "title": "d", "text": "e" }], "chat_template_kwargs": { "enable_thinking": false } });
    let documents = [messages, whole].map(|prompt| prompt.to_string().into_bytes());
    let tokenizer = with_template(
        "{{ tools | tojson }}{{ documents | tojson }}{% for m in messages %}{{ m | tojson }}{% endfor %}",
    );
    let (mut read, mut encoded) = ([0; 2], 0);
    fuzz_json(&documents, |from, document| {
        let Ok(json) = std::str::from_utf8(document) else { return };
        let mut prompt = None;
        let allocated = allocation_counter::measure(|| prompt = Prompt::from_json(json).ok());
        PROMPT.check(document, allocated.bytes_max);
        let Some(prompt) = prompt else { return };
        read[from] += 1;
        assert!(!prompt.messages().is_empty());
        encoded += usize::from(tokenizer.encode_chat(&prompt).is_ok());
    });
    assert!(read.iter().all(|&read| read > 0) && encoded > 0, "{read:?}, {encoded}");
}

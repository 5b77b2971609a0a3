//! Memory and time of reading large and hostile files, below and above their limits.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use litemoe_fixtures::fuzz::Bound;
use litemoe_text::{RowFile, TextError, Tokenizer};

use crate::dirs::with_files;
use crate::vocabularies;

/// Bound of reading `tokenizer.json`. The bytes of a document may all be those of tokens in a trie.
pub(crate) const TOKENIZER: Bound = Bound { fixed: 1 << 20, per_byte: 400, per_value: 600 };

/// The same for a tokenizer with regular expressions.
pub(crate) const PATTERNS: Bound = Bound { fixed: 128 << 20, ..TOKENIZER };

/// Bound of reading a tokenizer's other files. Their bytes may be those of added tokens.
pub(crate) const CONFIGURATION: Bound = Bound { fixed: 1 << 20, per_byte: 128, per_value: 600 };

/// Bound of reading rows. A row may have two bytes.
pub(crate) const ROWS: Bound = Bound { fixed: 1 << 16, per_byte: 160, per_value: 320 };

/// Bound of reading a conversation to answer.
pub(crate) const PROMPT: Bound = Bound { fixed: 1 << 16, per_byte: 8, per_value: 400 };

/// `n` items, comma-separated.
fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<_>>().join(",")
}

fn zeros(n: usize) -> String {
    format!("[{}]", list(n, |_| "0".to_owned()))
}

/// Replaces a file of a tokenizer and reads it within a bound.
#[track_caller]
fn read(dir: &Path, name: &str, json: &str, bound: Bound) -> Result<Tokenizer, TextError> {
    fs::write(dir.join(name), json).unwrap();
    let mut read = None;
    let allocated = allocation_counter::measure(|| read = Some(Tokenizer::from_dir(dir)));
    bound.check(json.as_bytes(), allocated.bytes_max);
    read.unwrap()
}

/// Reads a tokenizer with another part; the error message, or an empty one.
#[track_caller]
fn with_part(key: &str, value: &str) -> String {
    let tokenizer = vocabularies::word_level();
    let rest = tokenizer.as_object().unwrap().iter().filter(|(name, _)| *name != key);
    let rest: Vec<_> = rest.map(|(name, part)| format!("\"{name}\":{part}")).collect();
    let json = format!("{{{},\"{key}\":{value}}}", rest.join(","));
    let dir = with_files(&[]);
    let read = read(dir.path(), "tokenizer.json", &json, TOKENIZER);
    read.map_or_else(|error| error.to_string(), |_| String::new())
}

#[track_caller]
fn assert_refused(error: &str, message: &str) {
    assert!(error.contains(message), "{error:.300}");
}

#[test]
fn parts_of_tokenizers() {
    let n = 100_000;
    let values = [
        zeros(n),
        format!("[{}]", list(n, |_| "[]".to_owned())),
        format!("[{}]", list(n, |_| "[0]".to_owned())),
        format!("[{}]", list(n, |_| "{\"\":0}".to_owned())),
    ];
    for value in &values {
        for part in ["version", "truncation", "padding", "added_tokens", "post_processor"] {
            with_part(part, value);
        }
        for part in ["normalizer", "pre_tokenizer", "decoder"] {
            assert_refused(&with_part(part, value), "more than 10000 values");
        }
        for kind in ["BPE", "WordPiece", "WordLevel", "Unigram", ""] {
            let vocab = "{\"a\":0}";
            with_part("model", &format!("{{\"type\":\"{kind}\",\"vocab\":{value}}}"));
            with_part(
                "model",
                &format!("{{\"type\":\"{kind}\",\"vocab\":{vocab},\"merges\":{value}}}"),
            );
        }
    }
    assert_refused(&with_part("decoder", &zeros(9_998)), "data did not match");
    assert_refused(&with_part("decoder", &zeros(10_000)), "more than 10000 values");
}

#[test]
fn regular_expressions() {
    let with = |pattern: &str| {
        let split = format!(
            "{{\"type\":\"Split\",\"pattern\":{{\"Regex\":\"{pattern}\"}},\"behavior\":\"Isolated\",\"invert\":false}}"
        );
        let mut tokenizer = vocabularies::word_level();
        tokenizer["pre_tokenizer"] = serde_json::from_str(&split).unwrap();
        let dir = with_files(&[]);
        let json = tokenizer.to_string();
        let read = read(dir.path(), "tokenizer.json", &json, PATTERNS);
        read.map_or_else(|error| error.to_string(), |_| String::new())
    };
    assert_eq!(with(&"a|".repeat(2048)), "");
    assert_refused(&with(&format!("{}b", "a|".repeat(2048))), "4097 bytes, more than 4096");
    for part in
        [r"\\w", r"\\w(?!a)", r"\\p{L}(?!a)", r"(?i:\\w)", r"\\w{9}(?!a)", r"[^\\s\\p{L}](?=b)|"]
    {
        with(&part.repeat(4000 / part.len()));
    }
}

#[test]
fn vocabularies_of_many_tokens_and_of_long_ones() {
    let n = 50_000;
    let vocab = format!("{{\"[UNK]\":0,{}}}", list(n, |i| format!("\"{i:x}\":{}", i + 1)));
    let model = |kind: &str, rest: &str| format!("{{\"type\":\"{kind}\",{rest}}}");
    let level = format!("\"vocab\":{vocab},\"unk_token\":\"[UNK]\"");
    assert_eq!(with_part("model", &model("WordLevel", &level)), "");
    let merges = list(n - 4096, |i| format!("[\"{:x}\",\"{:x}\"]", (i + 4096) / 16, i % 16));
    let pairs = format!("\"vocab\":{vocab},\"merges\":[{merges}]");
    assert_eq!(with_part("model", &model("BPE", &pairs)), "");
    let unigram = |n: usize, len: usize| {
        let tokens = list(n, |i| format!("[\"{i:04x}{}\",-1]", "x".repeat(len - 4)));
        with_part("model", &model("Unigram", &format!("\"unk_id\":0,\"vocab\":[{tokens}]")))
    };
    assert_eq!(unigram(n, 5), "");
    assert_eq!(unigram(100, 2048), "");
    assert_refused(&unigram(1, 2049), "a token of 2049 bytes");
    assert_refused(&unigram(2048, 2048), "more than 4194304");
}

#[test]
fn added_tokens() {
    let added = |n: usize, len: usize| {
        let token = |i: usize| {
            let content = format!("{i:04x}{}", "x".repeat(len - 4));
            format!(
                "{{\"id\":{i},\"content\":\"{content}\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\
                 \"normalized\":false,\"special\":true}}"
            )
        };
        list(n, token)
    };
    let dir = with_files(&[
        ("tokenizer.json", vocabularies::word_level().to_string().as_bytes()),
        ("tokenizer_config.json", b"{}"),
    ]);
    let error = |name: &str, json: &str| {
        let read = read(dir.path(), name, json, CONFIGURATION);
        fs::write(dir.path().join(name), "{}").unwrap();
        read.map_or_else(|error| error.to_string(), |_| String::new())
    };
    let legacy = |n: usize, len: usize| {
        let token = |i: usize| format!("\"{i:04x}{}\":{i}", "x".repeat(len - 4));
        error("added_tokens.json", &format!("{{{}}}", list(n, token)))
    };
    assert_eq!(legacy(20_000, 5), "");
    assert_eq!(legacy(512, 2048), "");
    assert_refused(&legacy(513, 2048), "more than 1048576");
    assert_refused(&legacy(1, 2049), "2049 bytes");
    let extra = |n: usize| {
        let names = list(n, |i| format!("\"{i:x}\""));
        error("tokenizer_config.json", &format!("{{\"extra_special_tokens\":[{names}]}}"))
    };
    assert_eq!(extra(20_000), "");
    assert_eq!(with_part("added_tokens", &format!("[{}]", added(512, 2048))), "");
    assert_refused(
        &with_part("added_tokens", &format!("[{}]", added(513, 2048))),
        "more than 1048576",
    );
}

#[test]
fn configurations_of_many_values() {
    let dir = with_files(&[
        ("tokenizer.json", vocabularies::word_level().to_string().as_bytes()),
        ("tokenizer_config.json", b"{}"),
    ]);
    for name in ["tokenizer_config.json", "special_tokens_map.json", "config.json"] {
        let with = |value: &str| {
            let json = format!("{{\"new\":{value}}}");
            read(dir.path(), name, &json, CONFIGURATION)
                .map_or_else(|e| e.to_string(), |_| String::new())
        };
        assert_eq!(with(&zeros(499_998)), "");
        assert_refused(&with(&zeros(500_000)), "more than 500000 values");
        assert_refused(&with(&format!("\"{}\"", "a".repeat(16 << 20))), "more than 16777216 bytes");
        assert_eq!(with(&format!("[{}]", list(50_000, |_| "{\"a\":[{}]}".to_owned()))), "");
        fs::write(dir.path().join(name), "{}").unwrap();
    }
    let template = |len: usize| {
        fs::write(dir.path().join("chat_template.jinja"), "a".repeat(len)).unwrap();
        Tokenizer::from_dir(dir.path()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(template(1 << 20), Ok(()));
    assert_refused(&template((1 << 20) + 1).unwrap_err(), "more than 1048576 bytes");
}

#[test]
fn a_long_text_before_an_answer_is_not_searched_for_special_tokens() {
    let template = |n: usize| {
        format!(
            "{{% for m in messages %}}{{% if m.role == 'assistant' %}}{{{{ 'x' * {n} ~ m.content }}}}</s>\
             {{% else %}}{{{{ m.content }}}}{{% endif %}}{{% endfor %}}"
        )
    };
    let with = |n: usize, n_special: usize| {
        let special: Vec<_> = (0..n_special).map(|i| format!("{i:x}")).collect();
        let config = serde_json::json!({
            "chat_template": template(n), "eos_token": "</s>", "extra_special_tokens": special
        });
        let tokenizer = vocabularies::sentencepiece().to_string();
        let dir = with_files(&[
            ("tokenizer.json", tokenizer.as_bytes()),
            ("tokenizer_config.json", config.to_string().as_bytes()),
        ]);
        Tokenizer::from_dir(dir.path()).unwrap().assistant_prefix().len()
    };
    assert_eq!(with(4096, 1), 4096);
    assert_eq!(with(4097, 1), 0);
    let start = Instant::now();
    assert_eq!(with(1 << 20, 50_000), 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn rows() {
    let n = 50_000;
    let dir = with_files(&[]);
    let path = dir.path().join("rows");
    let check = |text: &str, rows: Option<usize>| {
        fs::write(&path, text).unwrap();
        let mut read = None;
        let allocated = allocation_counter::measure(|| read = Some(RowFile::read(&path)));
        ROWS.check(text.as_bytes(), allocated.bytes_max);
        assert_eq!(read.unwrap().ok().map(|file| file.rows.len()), rows, "{text:.100}");
    };
    let message = |extra: &str| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}},{{\"role\":\"assistant\",\"content\":\"b\",\
             \"x\":{extra}}}]}}\n"
        )
    };
    check(&message(&zeros(n)), Some(1));
    check(&message(&format!("[{}]", list(n, |_| "{\"\":0}".to_owned()))), Some(1));
    check(&message("0").repeat(n / 10), Some(n / 10));
    check(&"{\"text\":\"a\"}\n".repeat(n), Some(n));
    check(&format!("[{}]", list(n, |_| "{\"text\":\"a\"}".to_owned())), Some(n));
    check(&format!("[{}]", list(n, |_| "{}".to_owned())), None);
    check(&zeros(n), None);
    check(&format!("{{\"text\":\"a\",{}}}", list(n, |i| format!("\"{i:x}\":0"))), Some(1));
    check(&format!("text\n{}", "a\n".repeat(n)), Some(n));
    let columns = list(n, |i| format!("{i:x}x"));
    check(&format!("text,{columns}\na,{}\n", ",".repeat(n - 1)), Some(1));
}

#[test]
fn records_of_a_table_do_not_copy_the_names_of_its_columns() {
    let dir = with_files(&[]);
    let path = dir.path().join("rows.csv");
    let n = 10_000;
    let table = format!("text,{}\n{}", "x".repeat(1 << 20), "a,b\n".repeat(n));
    fs::write(&path, &table).unwrap();
    let mut rows = 0;
    let allocated = allocation_counter::measure(|| rows = RowFile::read(&path).unwrap().rows.len());
    assert_eq!(rows, n);
    let total = allocated.bytes_total;
    assert!(total < 100 * table.len() as u64, "{total} bytes in all");
}

#[test]
fn a_file_of_rows_above_the_limit_is_not_read() {
    let dir = with_files(&[]);
    let path = dir.path().join("rows.jsonl");
    let file = fs::File::create(&path).unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    let mut error = String::new();
    let allocated = allocation_counter::measure(|| {
        error = RowFile::read(&path).unwrap_err().to_string();
    });
    assert_refused(&error, "more than 1073741824 bytes");
    assert!(allocated.bytes_max < 1 << 16);
}

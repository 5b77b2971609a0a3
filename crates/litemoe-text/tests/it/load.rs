use std::fs;

use litemoe_text::{Message, TextError, Tokenizer};
use serde_json::{Value, json};

use crate::dirs::{foundation, sentencepiece, with_config, with_files};
use crate::vocabularies;

fn named(names: &[&str]) -> serde_json::Value {
    let template = |name: &&str| json!({ "name": name, "template": format!("{name}:<|pad|>") });
    json!({ "chat_template": names.iter().map(template).collect::<Vec<_>>() })
}

fn rendered(names: &[&str]) -> Result<String, TextError> {
    let tokenizer = Tokenizer::from_dir(with_config(&named(names)).path())?;
    tokenizer.template().unwrap().render(&[Message::user("hi")], true)
}

#[test]
fn of_several_templates_the_default_or_the_only_one_is_taken() {
    assert_eq!(rendered(&["tool_use", "default", "rag"]).unwrap(), "default:<|pad|>");
    assert_eq!(rendered(&["tool_use"]).unwrap(), "tool_use:<|pad|>");
    let error = rendered(&["tool_use", "rag"]).unwrap_err();
    assert!(
        matches!(&error, TextError::WhichTemplate { names, .. } if names == &["tool_use", "rag"])
    );
    assert!(error.to_string().contains("tokenizer_config.json"), "{error}");
}

#[test]
fn a_template_file_wins_over_the_configuration() {
    let dir = with_config(&json!({ "chat_template": "configuration" }));
    fs::write(dir.path().join("chat_template.jinja"), "file").unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.template().unwrap().render(&[], false).unwrap(), "file");
}

#[test]
fn end_ids_are_those_of_the_generation_config_and_the_template() {
    assert_eq!(foundation().end_ids(), &[0].into());
    assert_eq!(sentencepiece().end_ids(), &[1].into());
    let template = "{% for m in messages %}{{ m.content }}<|assistant|>{% endfor %}";
    let dir = with_config(&json!({ "eos_token": "<|pad|>", "chat_template": template }));
    let end_ids = || Tokenizer::from_dir(dir.path()).unwrap().end_ids().clone();
    assert_eq!(end_ids(), [2, 3].into());
    fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 1}"#).unwrap();
    assert_eq!(end_ids(), [1, 2].into());
    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [0, 1]}"#).unwrap();
    assert_eq!(end_ids(), [0, 1, 2].into());
}

#[test]
fn a_directory_that_is_not_right_is_refused_by_file() {
    let tokenizer = fs::read(litemoe_fixtures::foundation_dir().join("tokenizer.json")).unwrap();
    let cut = &tokenizer[..tokenizer.len() / 2];
    let refused =
        |files: &[(&str, &[u8])]| Tokenizer::from_dir(with_files(files).path()).unwrap_err();
    assert!(
        matches!(refused(&[]), TextError::Read { file, .. } if file.ends_with("tokenizer.json"))
    );
    assert!(matches!(refused(&[("tokenizer.json", cut)]), TextError::Malformed { file, .. }
        if file.ends_with("tokenizer.json")));
    for (name, text) in [
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", r#"{"chat_template": 3}"#),
        ("generation_config.json", r#"{"eos_token_id": "</s>"}"#),
    ] {
        let error = refused(&[("tokenizer.json", &tokenizer), (name, text.as_bytes())]);
        assert!(
            matches!(&error, TextError::Malformed { file, .. } if file.ends_with(name)),
            "{error}"
        );
    }
    let config = json!({ "eos_token": "</nowhere>" });
    let error = Tokenizer::from_dir(with_config(&config).path()).unwrap_err();
    assert!(matches!(error, TextError::UnknownToken { token } if token == "</nowhere>"));
}

#[test]
fn what_a_tokenizer_file_says_of_cutting_and_padding_is_ignored() {
    let plain =
        fs::read_to_string(litemoe_fixtures::foundation_dir().join("tokenizer.json")).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&plain).unwrap();
    tokenizer["truncation"] =
        json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    tokenizer["padding"] = json!({ "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 3, "pad_type_id": 0, "pad_token": "<|pad|>" });
    let dir = with_files(&[("tokenizer.json", tokenizer.to_string().as_bytes())]);
    let text = "turn on the kitchen lights";
    let ids = Tokenizer::from_dir(dir.path()).unwrap().encode_text(text).unwrap();
    assert_eq!(ids, foundation().encode_text(text).unwrap());
}

/// Loads a modified tokenizer, and encodes and decodes with it.
fn with_change(mut tokenizer: Value, change: impl FnOnce(&mut Value)) -> Result<(), TextError> {
    change(&mut tokenizer);
    let dir = with_files(&[("tokenizer.json", tokenizer.to_string().as_bytes())]);
    let tokenizer = Tokenizer::from_dir(dir.path())?;
    let ids = tokenizer.encode_text("ab <s> é\u{fdfa}")?;
    tokenizer.encode_prompt(&[Message::user("ab")])?;
    tokenizer.decode(&[])?;
    tokenizer.decode(&[&ids[..], &[u32::MAX]].concat())?;
    Ok(())
}

#[test]
fn tokenizers_that_make_texts_longer_and_longer_are_refused() {
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let replace =
        json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "a".repeat(101) });
    for (kind, field, step, n) in [
        ("pre_tokenizer", "pretokenizers", &byte_level, 14),
        ("pre_tokenizer", "pretokenizers", &json!({ "type": "Whitespace" }), 16),
        ("normalizer", "normalizers", &replace, 2),
        ("decoder", "decoders", &replace, 2),
    ] {
        let steps = |n| json!({ "type": "Sequence", (field): vec![step.clone(); n] });
        let changed = |n| with_change(vocabularies::byte_level(), |t| t[kind] = steps(n));
        let error = changed(n).unwrap_err();
        assert!(
            matches!(&error, TextError::Malformed { file, reason }
            if file.ends_with("tokenizer.json") && reason.contains(kind)),
            "{error}"
        );
        changed(n - 1).unwrap();
    }
}

#[test]
fn tokenizers_that_contradict_themselves_are_errors() {
    let changed = |pointer: &str, value: Value| {
        with_change(vocabularies::sentencepiece(), |tokenizer| {
            *tokenizer.pointer_mut(pointer).unwrap() = value;
        })
    };
    // A decoder that strips more than the text's length.
    assert!(matches!(changed("/decoder/decoders/3/stop", json!(9)), Err(TextError::Decode { .. })));
    // A post-processor template with unknown tokens.
    let error = changed("/post_processor/special_tokens", json!({}));
    assert!(matches!(error, Err(TextError::Encode { .. })));
    for (pointer, value) in [
        ("/decoder/type", json!("Strip")),
        ("/model/continuing_subword_prefix", json!("▁▁▁▁")),
        ("/model/merges/0", json!(["▁", "nowhere"])),
        ("/model/vocab", json!(["a"])),
        ("/model/vocab/a", json!(u64::MAX)),
        ("/normalizer", json!({ "type": "Precompiled" })),
        ("/added_tokens/0/content", json!(7)),
    ] {
        let error = changed(pointer, value).expect_err(pointer);
        assert!(matches!(error, TextError::Malformed { .. }), "{pointer}: {error}");
    }
    // A table with out-of-range offsets.
    assert!(matches!(with_change(vocabularies::unigram(), |_| ()), Err(TextError::Encode { .. })));
}

#[test]
fn ids_are_as_large_as_they_say() {
    let mut tokenizer = vocabularies::sentencepiece();
    tokenizer["model"]["vocab"]["c"] = json!(u32::MAX);
    let dir = with_files(&[("tokenizer.json", tokenizer.to_string().as_bytes())]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.encode_text("c").unwrap().last(), Some(&u32::MAX));
    assert_eq!(tokenizer.decode(&[u32::MAX]).unwrap(), "c");
}

#[test]
fn a_pattern_that_looks_back_and_forth_gives_up() {
    let mut tokenizer = vocabularies::byte_level();
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"(a*)*\1c|b");
    let dir = with_files(&[("tokenizer.json", tokenizer.to_string().as_bytes())]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let text = "a".repeat(20_000);
    assert_eq!(tokenizer.decode(&tokenizer.encode_text(&text).unwrap()).unwrap(), text);
}

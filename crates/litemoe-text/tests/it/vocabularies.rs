//! Small tokenizers of every kind in `tokenizer.json`.

use serde_json::{Map, Value, json};

/// A tokenizer with the given normalizer, pre-tokenizer, decoder and model, without added tokens.
fn tokenizer([normalizer, pre_tokenizer, decoder, model]: [Value; 4]) -> Value {
    json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model })
}

fn added(id: u32, content: &str) -> Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true })
}

fn ids<T: Into<String>>(tokens: impl IntoIterator<Item = T>) -> Map<String, Value> {
    (0..).zip(tokens).map(|(id, token): (u32, T)| (token.into(), id.into())).collect()
}

/// SentencePiece BPE with byte fallback: a leading space is added and removed again when decoding, unknown characters
/// become bytes, `<s>` begins a text. Tokens: `<s>` 0, `</s>` 1, bytes 2 to 257, then words and letters.
pub(crate) fn sentencepiece() -> Value {
    let words = ["▁", "a", "b", "c", "▁a", "▁b", "ab", "▁ab"].map(String::from);
    sentencepiece_of(words, &json!([["▁", "a"], ["▁", "b"], ["a", "b"], ["▁a", "b"]]))
}

/// The same with words for JSON.
pub(crate) fn sentencepiece_ascii() -> Value {
    let letters = (b'!'..=b'~').map(|letter| char::from(letter).to_string());
    let words = ["▁", "▁{", "{\"", "▁\"", "\":", "▁true", "false", "é", "▁a", "▁ab", "\"}", "▁▁"];
    sentencepiece_of(letters.chain(words.map(String::from)), &json!([]))
}

fn sentencepiece_of(words: impl IntoIterator<Item = String>, merges: &Value) -> Value {
    let mut tokens: Vec<String> = vec!["<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(words);
    json!({
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
            "vocab": ids(tokens), "merges": merges }
    })
}

/// Byte-level BPE as in GPT-4 and Qwen, split by a regular expression.
pub(crate) fn byte_level() -> Value {
    let split = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let pre = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": split }, "behavior": "Isolated", "invert": false }, byte_level]});
    let tokens = ["a", "b", "c", "Ġ", "Ċ", "Ã", "©", "ab", "Ġa", "Ġab"];
    let model = json!({ "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
        "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": true, "vocab": ids(tokens),
        "merges": ["a b", "Ġ a", "Ġa b"] });
    let mut tokenizer = tokenizer([json!({ "type": "NFC" }), pre, byte_level, model]);
    tokenizer["post_processor"] = tokenizer["decoder"].clone();
    tokenizer["added_tokens"] = json!([added(10, "<|end|>"), added(11, "<|pad|>")]);
    tokenizer
}

/// Unigram model as in T5 and XLM-R.
pub(crate) fn unigram() -> Value {
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let pieces =
        [("<unk>", 0.0), ("▁", -2.5), ("a", -3.0), ("b", -3.5), ("▁ab", -4.0), ("é", -9.25)];
    let normalizer = json!({ "type": "Sequence", "normalizers": [
        { "type": "Precompiled", "precompiled_charsmap": "BAAAAAABAAAAYQA=" },
        { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }]});
    let mut tokenizer = tokenizer([
        normalizer,
        metaspace.clone(),
        metaspace,
        json!({ "type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false }),
    ]);
    tokenizer["added_tokens"] = json!([added(0, "<unk>")]);
    tokenizer
}

/// WordPiece model as in BERT.
pub(crate) fn word_piece() -> Value {
    word_piece_of(["a", "##b", "ab", "中"].map(String::from))
}

/// The same with words for JSON.
pub(crate) fn word_piece_ascii() -> Value {
    let letters = (b'!'..=b'~').map(|letter| char::from(letter).to_string());
    let words = letters.flat_map(|letter| [format!("##{letter}"), letter]);
    word_piece_of(words.chain(["true", "##alse", "中"].map(String::from)))
}

fn word_piece_of(words: impl IntoIterator<Item = String>) -> Value {
    let normalizer = json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": true });
    let decoder = json!({ "type": "WordPiece", "prefix": "##", "cleanup": true });
    let special = ["[UNK]", "[CLS]", "[SEP]"].map(String::from);
    let vocab = ids(special.into_iter().chain(words));
    let model = json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocab });
    let mut tokenizer =
        tokenizer([normalizer, json!({ "type": "BertPreTokenizer" }), decoder, model]);
    tokenizer["post_processor"] =
        json!({ "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1] });
    tokenizer
}

/// WordLevel model, with all remaining kinds of steps.
pub(crate) fn word_level() -> Value {
    let normalizer = json!({ "type": "Sequence", "normalizers": [
        { "type": "NFKD" }, { "type": "StripAccents" }, { "type": "Lowercase" }, { "type": "Nmt" },
        { "type": "Strip", "strip_left": true, "strip_right": true }]});
    let pre = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Whitespace" }, { "type": "Digits", "individual_digits": true },
        { "type": "Punctuation", "behavior": "MergedWithPrevious" }, { "type": "UnicodeScripts" },
        { "type": "CharDelimiterSplit", "delimiter": "-" }, { "type": "FixedLength", "length": 5 }]});
    let decoder = json!({ "type": "Sequence", "decoders": [
        { "type": "BPEDecoder", "suffix": "</w>" },
        { "type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true }]});
    let vocab = ids(["<unk>", "a", "ab", "1", "b|", "<pad>"]);
    let mut tokenizer = tokenizer([
        normalizer,
        pre,
        decoder,
        json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" }),
    ]);
    tokenizer["truncation"] =
        json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 1 });
    tokenizer["padding"] = json!({ "strategy": { "Fixed": 8 }, "direction": "Left", "pad_to_multiple_of": 3, "pad_id": 5,
        "pad_type_id": 0, "pad_token": "<pad>" });
    tokenizer["post_processor"] = json!({ "type": "RobertaProcessing", "sep": ["b|", 4], "cls": ["a", 1],
        "trim_offsets": true, "add_prefix_space": true });
    tokenizer
}

//! Tokenizer classes of transformers. Some of them take only the vocabulary from `tokenizer.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Pre-tokenizer of Qwen2's class.
const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Class that reads a tokenizer's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenizerClass {
    /// All of `tokenizer.json`.
    Whole,
    Gemma,
    Gpt2,
    GptNeoX,
    Llama,
    Qwen2,
    T5,
}

impl TokenizerClass {
    /// The class that transformers' `AutoTokenizer` takes, from the class that the files declare, the model's type, and
    /// whether `tokenizer.json` has a byte-level step.
    ///
    /// # Errors
    /// The name of a class that is not known here.
    pub(crate) fn of(
        declared: Option<&str>,
        model_type: Option<&str>,
        is_byte_level: bool,
    ) -> Result<Self, String> {
        let registered = model_type.and_then(registered);
        let declared = declared.map(|class| class.strip_suffix("Fast").unwrap_or(class));
        match (declared, registered) {
            // Files of Llama 3 declare the class of Llama 2.
            (Some("LlamaTokenizer"), _) if is_byte_level => Ok(Self::Whole),
            (Some(_), Some("TokenizersBackend")) | (None, None) => Ok(Self::Whole),
            (Some(class), _) | (None, Some(class)) => Self::named(class),
        }
    }

    fn named(class: &str) -> Result<Self, String> {
        Ok(match class {
            "PreTrainedTokenizer" | "PythonBackend" | "TokenizersBackend" | "BloomTokenizer" => {
                Self::Whole
            }
            "GemmaTokenizer" => Self::Gemma,
            "GPT2Tokenizer" => Self::Gpt2,
            "GPTNeoXTokenizer" => Self::GptNeoX,
            "LlamaTokenizer" => Self::Llama,
            "Qwen2Tokenizer" => Self::Qwen2,
            "T5Tokenizer" => Self::T5,
            _ => return Err(class.to_owned()),
        })
    }

    /// Named special tokens that the class has if the files do not mention them.
    pub(crate) fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Whole => &[],
            Self::Gemma => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Gpt2 => &[
                ("unk_token", "<|endoftext|>"),
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
            ],
            Self::GptNeoX => &[
                ("unk_token", "<|endoftext|>"),
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("pad_token", "<|padding|>"),
            ],
            Self::Llama => &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
            Self::Qwen2 => &[
                ("unk_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("pad_token", "<|endoftext|>"),
            ],
            Self::T5 => &[("unk_token", "<unk>"), ("eos_token", "</s>"), ("pad_token", "<pad>")],
        }
    }

    /// Special tokens without a name that the class has if the files do not mention any.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn extra(self, config: &Map<String, Value>) -> Result<Vec<String>, String> {
        let n = match (self, config.get("extra_ids")) {
            (Self::T5, None) => 100,
            (Self::T5, Some(n)) => {
                n.as_u64().filter(|&n| n <= 1000).ok_or("it is not at most 1000")?
            }
            _ => 0,
        };
        Ok((0..n).map(|index| format!("<extra_id_{index}>")).collect())
    }

    /// A tokenizer file with the parts that the class does not read replaced. `config` is `tokenizer_config.json`, and
    /// `named` the texts of named special tokens.
    ///
    /// # Errors
    /// If the file is not of the class's kind.
    pub(crate) fn rebuilt(
        self,
        json: &[u8],
        config: &Map<String, Value>,
        named: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, String> {
        let mut file: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let kind = if self == Self::T5 { "Unigram" } else { "BPE" };
        if file["model"]["type"] != kind {
            return Err(format!("{self:?}: the class needs a model of type {kind}"));
        }
        let [normalizer, pre_tokenizer, decoder] = self.steps(&file["normalizer"], config);
        file["normalizer"] = normalizer;
        file["pre_tokenizer"] = pre_tokenizer;
        file["decoder"] = decoder;
        file["added_tokens"] = json!([]);
        match self {
            Self::GptNeoX => file["post_processor"] = Value::Null,
            Self::T5 => file["post_processor"] = ends_with(named.get("eos_token"), &file["model"])?,
            _ => {}
        }
        self.rebuild_model(&mut file["model"], named.get("unk_token"));
        serde_json::to_vec(&file).map_err(|error| error.to_string())
    }

    /// Normalizer, pre-tokenizer and decoder.
    fn steps(self, normalizer: &Value, config: &Map<String, Value>) -> [Value; 3] {
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        let prefix_space = flag("add_prefix_space");
        let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": prefix_space == Some(true),
            "trim_offsets": true, "use_regex": self != Self::Qwen2 });
        let nfc = json!({ "type": "NFC" });
        match self {
            Self::Whole => [Value::Null, Value::Null, Value::Null],
            Self::Gpt2 => [Value::Null, byte_level.clone(), byte_level],
            Self::GptNeoX => [nfc, byte_level.clone(), byte_level],
            Self::Qwen2 => {
                let split = json!({ "type": "Split", "pattern": { "Regex": QWEN2_SPLIT },
                    "behavior": "Isolated", "invert": false });
                let steps = json!({ "type": "Sequence", "pretokenizers": [split, byte_level] });
                [nfc, steps, byte_level]
            }
            Self::Llama => {
                let has_prefix = prefix_space.unwrap_or(true);
                let scheme = match (has_prefix, flag("legacy").unwrap_or(false)) {
                    (true, true) => "always",
                    (true, false) => "first",
                    (false, _) => "never",
                };
                [Value::Null, metaspace(scheme, false), bytes_decoder(has_prefix)]
            }
            Self::Gemma => {
                let normalizer =
                    json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
                let split = json!({ "type": "Split", "pattern": { "String": " " },
                    "behavior": "MergedWithPrevious", "invert": false });
                [normalizer, split, bytes_decoder(false)]
            }
            Self::T5 => {
                let steps = [json!({ "type": "WhitespaceSplit" }), metaspace("always", true)];
                let steps = json!({ "type": "Sequence", "pretokenizers": steps });
                [precompiled(normalizer), steps, metaspace("always", true)]
            }
        }
    }

    fn rebuild_model(self, model: &mut Value, unk_token: Option<&String>) {
        if self == Self::T5 {
            model["unk_id"] = 2.into();
            model["byte_fallback"] = false.into();
            return;
        }
        let has_bytes = matches!(self, Self::Gemma | Self::Llama);
        let affix = if has_bytes { Value::Null } else { "".into() };
        model["dropout"] = Value::Null;
        model["unk_token"] = match self {
            Self::Gemma => unk_token.cloned().into(),
            _ => Value::Null,
        };
        model["continuing_subword_prefix"] = affix.clone();
        model["end_of_word_suffix"] = affix;
        model["fuse_unk"] = has_bytes.into();
        model["byte_fallback"] = has_bytes.into();
        model["ignore_merges"] = false.into();
    }
}

/// The class that transformers registers for a model type; only those that models here have.
fn registered(model_type: &str) -> Option<&'static str> {
    Some(match model_type {
        "granitemoe" | "mixtral" | "phimoe" => "TokenizersBackend",
        "olmoe" => "GPTNeoXTokenizer",
        "qwen2_moe" | "qwen3_moe" => "Qwen2Tokenizer",
        "switch_transformers" => "T5Tokenizer",
        _ => return None,
    })
}

fn metaspace(prepend_scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": split })
}

fn bytes_decoder(strips: bool) -> Value {
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if strips {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": decoders })
}

/// The first precompiled normalizer among a file's.
fn precompiled(normalizer: &Value) -> Value {
    let steps = normalizer["normalizers"].as_array();
    let mut steps = steps.into_iter().flatten().chain([normalizer]);
    steps.find(|step| step["type"] == "Precompiled").cloned().unwrap_or(Value::Null)
}

/// T5's post-processor, which appends the end token.
fn ends_with(eos: Option<&String>, model: &Value) -> Result<Value, String> {
    let mut pieces = model["vocab"].as_array().into_iter().flatten();
    let id = pieces.position(|piece| {
        piece[0].as_str().is_some() && piece[0].as_str() == eos.map(String::as_str)
    });
    let id = id.ok_or("the class needs an end token in the vocabulary")?;
    let text = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    let end = json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } });
    Ok(json!({ "type": "TemplateProcessing", "single": [text("A", 0), end],
        "pair": [text("A", 0), end, text("B", 0), end],
        "special_tokens": { "</s>": { "id": "</s>", "ids": [id], "tokens": ["</s>"] } } }))
}

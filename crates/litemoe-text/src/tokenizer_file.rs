//! Reading of `tokenizer.json` by the library `tokenizers`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use litemoe_files::{JsonLimits, n_json_values, read_json_limited};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::Tokenizer;

use crate::TextError;
use crate::config::TextConfig;
use crate::special_tokens::{SpecialTokens, WrittenToken};
use crate::tokenizer_class::TokenizerClass;
use crate::vocabulary;

/// Limits of the file, several times the largest known one.
const LIMITS: JsonLimits = JsonLimits { max_bytes: 128 << 20, max_values: 4_000_000 };

/// Maximum values of the steps of one kind.
const MAX_STEP_VALUES: usize = 10_000;

/// Maximum steps of one kind in a tokenizer, far more than real ones have.
const MAX_STEPS: usize = 16;

/// Maximum bytes of the regular expressions of one kind of steps, several times those of the longest known ones. The
/// automaton of a character class takes tens of kilobytes.
const MAX_PATTERNS: usize = 4096;

/// Maximum factor by which the steps of one kind may lengthen a text.
const MAX_GROWTH: usize = 10_000;

/// Reads a directory's tokenizer as its class does, with the tokens of all files. Truncation and padding are disabled,
/// whatever the file says. Also returns the texts of named special tokens.
pub(crate) fn read(
    dir: &Path,
    config: &TextConfig,
) -> Result<(Tokenizer, BTreeMap<String, String>), TextError> {
    let file = dir.join("tokenizer.json");
    let malformed = |reason| TextError::Malformed { file: file.clone(), reason };
    let json = read_json_limited(&file, LIMITS)
        .map_err(|reason| TextError::Read { file: file.clone(), reason })?;
    let steps: Steps<'_> =
        serde_json::from_slice(&json).map_err(|error| malformed(error.to_string()))?;
    steps.check().map_err(malformed)?;
    let class = class(dir, config, &json)?;
    let added = steps.added_tokens.unwrap_or_default();
    let special = SpecialTokens::read(dir, &config.tokenizer, added, class)?;
    let texts = special.texts();
    let json = match class {
        TokenizerClass::Whole => json,
        _ => class.rebuilt(&json, &config.tokenizer, &texts).map_err(malformed)?,
    };
    let mut tokenizer = catch_panic(|| {
        let mut tokenizer = Tokenizer::from_bytes(&json)?;
        tokenizer.with_padding(None).with_truncation(None)?;
        Ok(tokenizer)
    })
    .map_err(malformed)?;
    if let Some(eos) = texts.get("eos_token")
        && tokenizer.token_to_id(eos).is_none()
        && !special.adds(eos)
    {
        return Err(TextError::UnknownToken { token: eos.clone() });
    }
    catch_panic(|| {
        special.add_to(&mut tokenizer)?;
        if class == TokenizerClass::Qwen2 {
            special.add_plain_to(&mut tokenizer)?;
        }
        Ok(())
    })
    .map_err(malformed)?;
    let splits = config.tokenizer.get("split_special_tokens").is_some_and(|flag| flag == true);
    tokenizer.set_encode_special_tokens(splits);
    Ok((tokenizer, texts))
}

fn class(dir: &Path, config: &TextConfig, json: &[u8]) -> Result<TokenizerClass, TextError> {
    let refused =
        |class: &str| TextError::TokenizerClass { dir: dir.into(), class: class.to_owned() };
    let own_code = config.tokenizer.get("auto_map").and_then(|map| map.get("AutoTokenizer"));
    if own_code.is_some() {
        return Err(refused("of the model's own code"));
    }
    let declared = config.tokenizer_class.as_deref();
    let byte_level = b"\"ByteLevel\"";
    let is_byte_level = declared.is_some_and(|class| class.starts_with("Llama"))
        && json.windows(byte_level.len()).any(|part| part == byte_level);
    TokenizerClass::of(declared, config.model_type.as_deref(), is_byte_level)
        .map_err(|class| refused(&class))
}

/// Calls the library, which panics on inconsistent files: a normalizer's table with out-of-range offsets, a merge of
/// tokens shorter than their prefix. Some of this shows only when a text is encoded, and the library has no check of
/// its own, so its panics are caught here. They leave no partial state: encoding and decoding change only caches, which
/// are behind locks and are skipped when poisoned.
pub(crate) fn catch_panic<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer's parts contradict each other".to_owned()),
    }
}

/// Parts of a file that process texts, its added tokens and its model.
#[derive(Deserialize)]
struct Steps<'j> {
    added_tokens: Option<Vec<WrittenToken>>,
    #[serde(borrow)]
    normalizer: Option<&'j RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'j RawValue>,
    #[serde(borrow)]
    decoder: Option<&'j RawValue>,
    #[serde(borrow)]
    model: Option<&'j RawValue>,
}

impl Steps<'_> {
    /// Checks that the steps cannot lengthen texts without bound, and that the tokens are short and few enough.
    fn check(&self) -> Result<(), String> {
        let kinds = [
            ("normalizer", self.normalizer),
            ("pre_tokenizer", self.pre_tokenizer),
            ("decoder", self.decoder),
        ];
        for (kind, steps) in kinds {
            let Some(json) = steps.map(RawValue::get) else { continue };
            if n_json_values(json.as_bytes()) > MAX_STEP_VALUES {
                return Err(format!("{kind}: it has more than {MAX_STEP_VALUES} values"));
            }
            let steps: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let patterns = pattern_bytes(&steps);
            if patterns > MAX_PATTERNS {
                return Err(format!(
                    "{kind}: patterns of {patterns} bytes, more than {MAX_PATTERNS}"
                ));
            }
            check_tries(&steps).map_err(|reason| format!("{kind}: {reason}"))?;
            let mut growths = Vec::new();
            collect_growths(&steps, &mut growths);
            let growth = growths.iter().fold(1, |product: usize, &g| product.saturating_mul(g));
            if growths.len() > MAX_STEPS || growth > MAX_GROWTH {
                return Err(format!("{kind}: more than {MAX_STEPS} steps, or texts grow too much"));
            }
        }
        vocabulary::check_added(self.added_tokens.iter().flatten().map(WrittenToken::content))?;
        self.model.map_or(Ok(()), |model| vocabulary::check_model(model.get()))
    }
}

/// Bytes of all regular expressions in steps.
fn pattern_bytes(step: &Value) -> usize {
    match step {
        Value::Array(steps) => steps.iter().map(pattern_bytes).sum(),
        Value::Object(fields) => {
            let pattern = fields.get("Regex").and_then(Value::as_str).map_or(0, str::len);
            pattern + fields.values().map(pattern_bytes).sum::<usize>()
        }
        _ => 0,
    }
}

/// Checks that the tries of precompiled normalizers are no longer than their data: the library reserves the memory that
/// they state, up to 8 GiB.
fn check_tries(step: &Value) -> Result<(), String> {
    match step {
        Value::Array(steps) => steps.iter().try_for_each(check_tries),
        Value::Object(fields) => {
            if let Some(Value::String(data)) = fields.get("precompiled_charsmap")
                && let Some(bytes) = trie_bytes(data).filter(|&bytes| bytes > data.len())
            {
                return Err(format!("a precompiled trie of {bytes} bytes is cut off"));
            }
            fields.values().try_for_each(check_tries)
        }
        _ => Ok(()),
    }
}

/// Length of the trie that precompiled data begins with, the first 32 bits of the base64, little-endian.
fn trie_bytes(data: &str) -> Option<usize> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: &u8| ALPHABET.iter().position(|known| known == byte);
    let digits = data.as_bytes().get(..6)?.iter();
    let bits = digits.map(digit).try_fold(0, |bits, digit| Some(bits << 6 | digit? as u64))?;
    usize::try_from(u32::try_from(bits >> 4).ok()?.swap_bytes()).ok()
}

/// Collects the factor by which each step can lengthen a text.
fn collect_growths(step: &Value, growths: &mut Vec<usize>) {
    match step {
        Value::Array(steps) => steps.iter().for_each(|step| collect_growths(step, growths)),
        Value::Object(fields) => {
            if let Some(kind) = fields.get("type") {
                growths.push(growth(kind.as_str().unwrap_or_default(), step));
            }
            fields.values().for_each(|step| collect_growths(step, growths));
        }
        _ => {}
    }
}

fn growth(kind: &str, step: &Value) -> usize {
    let length = |field: &str| step[field].as_str().map_or(1, |text| text.len().max(1));
    match kind {
        // One letter per byte, of up to two bytes.
        "ByteLevel" => 2,
        "Metaspace" => length("replacement"),
        // U+FDFA becomes eighteen letters.
        "NFKC" | "NFKD" | "Precompiled" => 18,
        "Prepend" => 1 + length("prepend"),
        "Replace" => length("content"),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_trie_is_that_of_the_library() {
        for (data, bytes) in [
            ("BAAAAAAYQA=", Some(4)),
            ("BABAAAAYQA=", Some(0x0040_0004)),
            ("/////w==", Some(0xffff_ffff)),
            ("ALQCAAA", Some(177_152)),
            ("AAA", None),
            ("A?AAAAAA", None),
        ] {
            assert_eq!(trie_bytes(data), bytes, "{data}");
        }
        let steps = |data: &str| serde_json::json!([{ "a": { "precompiled_charsmap": data } }]);
        assert_eq!(check_tries(&steps("BAAAAAAYQA=")), Ok(()));
        assert!(check_tries(&steps("BABAAAAYQA=")).is_err());
    }
}

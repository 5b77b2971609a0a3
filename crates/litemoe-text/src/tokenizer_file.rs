//! Reading of `tokenizer.json` by the library `tokenizers`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::TextError;

/// Maximum steps of one kind in a tokenizer, far more than real ones have.
const MAX_STEPS: usize = 16;

/// Maximum factor by which the steps of one kind may lengthen a text.
const MAX_GROWTH: usize = 10_000;

/// Reads a file and disables truncation and padding, whatever the file says.
pub(crate) fn read(file: &Path) -> Result<Tokenizer, TextError> {
    let malformed = |reason| TextError::Malformed { file: file.into(), reason };
    let json = fs::read(file).map_err(|reason| TextError::Read { file: file.into(), reason })?;
    let steps: Steps =
        serde_json::from_slice(&json).map_err(|error| malformed(error.to_string()))?;
    steps.check().map_err(malformed)?;
    let tokenizer = catch_panic(|| {
        let mut tokenizer = Tokenizer::from_bytes(&json)?;
        tokenizer.with_padding(None).with_truncation(None)?;
        Ok(tokenizer)
    });
    tokenizer.map_err(malformed)
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

/// Parts of a file that process texts.
#[derive(Deserialize)]
struct Steps {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
}

impl Steps {
    /// Checks that the steps cannot lengthen texts without bound.
    fn check(&self) -> Result<(), String> {
        let kinds = [
            ("normalizer", &self.normalizer),
            ("pre_tokenizer", &self.pre_tokenizer),
            ("decoder", &self.decoder),
        ];
        for (kind, steps) in kinds {
            let mut growths = Vec::new();
            steps.iter().for_each(|steps| collect_growths(steps, &mut growths));
            let growth = growths.iter().fold(1, |product: usize, &g| product.saturating_mul(g));
            if growths.len() > MAX_STEPS || growth > MAX_GROWTH {
                return Err(format!("{kind}: more than {MAX_STEPS} steps, or texts grow too much"));
            }
        }
        Ok(())
    }
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

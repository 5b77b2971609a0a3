//! `tokenizer.json` and what the library `tokenizers` makes of it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::TextError;

/// Steps of one kind in a tokenizer, far more than those in use have.
const MAX_STEPS: usize = 16;

/// How many times as long as itself the steps of one kind may make a text.
const MAX_GROWTH: usize = 10_000;

/// Reads a file, and sees to it that rows are never cut or padded, whatever it was last used for.
pub(crate) fn read(file: &Path) -> Result<Tokenizer, TextError> {
    let malformed = |reason| TextError::Malformed { file: file.into(), reason };
    let json = fs::read(file).map_err(|reason| TextError::Read { file: file.into(), reason })?;
    let steps: Steps =
        serde_json::from_slice(&json).map_err(|error| malformed(error.to_string()))?;
    steps.check().map_err(malformed)?;
    let tokenizer = guarded(|| {
        let mut tokenizer = Tokenizer::from_bytes(&json)?;
        tokenizer.with_padding(None).with_truncation(None)?;
        Ok(tokenizer)
    });
    tokenizer.map_err(malformed)
}

/// Calls the library, which panics where a file contradicts itself: a normaliser's table that points outside itself, a merge of
/// tokens shorter than the prefix they should have. Some of that shows only when a text is encoded, and the library has no
/// check of its own, so its panics are caught here, at its border. It leaves nothing half-changed: encoding
/// and decoding change only caches, which it holds behind locks and does without when they are poisoned.
pub(crate) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer's parts contradict each other".to_owned()),
    }
}

/// The parts of a file that work on texts.
#[derive(Deserialize)]
struct Steps {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
}

impl Steps {
    /// Refuses steps that would make texts longer and longer.
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

/// How many times as long each step can make a text.
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
        // A letter for each byte, of up to two bytes.
        "ByteLevel" => 2,
        "Metaspace" => length("replacement"),
        // U+FDFA is eighteen letters.
        "NFKC" | "NFKD" | "Precompiled" => 18,
        "Prepend" => 1 + length("prepend"),
        "Replace" => length("content"),
        _ => 1,
    }
}

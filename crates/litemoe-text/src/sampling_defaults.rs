use std::path::Path;

use litemoe_core::Sampling;
use serde::Deserialize;

use crate::TextError;
use crate::config::read_json;

/// `top_k` of transformers where a model samples and names none.
const TOP_K: usize = 50;

/// Parameters of sampling in `generation_config.json`.
#[derive(Debug, Default, Deserialize)]
struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// A model's own sampling, by its `generation_config.json` as transformers' `generate` reads it: greedy unless
/// `do_sample` is true; then `temperature` (1), `top_k` (50), `top_p` (1) and `min_p` (0). `repetition_penalty` (1) is
/// used in either case. The seed is 0. Other keys are not used.
///
/// # Errors
/// [`TextError::Malformed`] for a value of a wrong type or out of range.
pub fn sampling_defaults(dir: impl AsRef<Path>) -> Result<Sampling, TextError> {
    let file = dir.as_ref().join("generation_config.json");
    let config: GenerationConfig = read_json(&file)?.unwrap_or_default();
    let greedy = Sampling::default();
    let repetition_penalty = config.repetition_penalty.unwrap_or(greedy.repetition_penalty);
    let sampling = match config.do_sample {
        Some(true) => Sampling {
            temperature: config.temperature.unwrap_or(1.0),
            top_k: config.top_k.unwrap_or(TOP_K),
            top_p: config.top_p.unwrap_or(greedy.top_p),
            min_p: config.min_p.unwrap_or(greedy.min_p),
            repetition_penalty,
            ..greedy
        },
        _ => Sampling { repetition_penalty, ..greedy },
    };
    let malformed = |error: litemoe_core::SamplingError| TextError::Malformed {
        file,
        reason: error.to_string(),
    };
    sampling.check().map_err(malformed)?;
    Ok(sampling)
}

//! Logits and tokens of transformers; recipe and hashes are in `fixtures/tiny/README.md`.

use std::fs;

use litemoe_core::{CausalLm, Decoding, Input, LanguageModel, Logprobs, Pass, Sampler, Sampling};
use serde::Deserialize;

use crate::edit;
use crate::setup::{TINY, error, load, logits, tiny, values};

#[derive(Deserialize)]
pub(crate) struct Reference {
    input_ids: Vec<u32>,
    /// Set for encoder–decoders; `input_ids` are then the encoder's.
    decoder_input_ids: Option<Vec<u32>>,
    greedy: Vec<u32>,
    greedy_margin: f32,
}

/// A fixture's reference and its logits.
pub(crate) fn reference(dir: &std::path::Path) -> (Reference, Vec<f32>) {
    let logits = edit::read(&dir.join("reference.safetensors"))["logits"].clone();
    let logits = logits.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let json = fs::read(dir.join("reference.json")).unwrap();
    (serde_json::from_slice(&json).unwrap(), logits.collect())
}

/// Logits of the reference's ids.
pub(crate) fn logits_of(dir: &std::path::Path) -> Vec<f32> {
    let (reference, _) = reference(dir);
    let ids = vec![reference.input_ids];
    let input = match reference.decoder_input_ids {
        Some(decoder_ids) => Input { rows: vec![decoder_ids], encoder_rows: Some(ids) },
        None => Input::decoder(ids),
    };
    values(&load(dir).logits(&input, &mut Pass::plain()))
}

#[test]
fn logits_equal_the_reference() {
    for name in TINY {
        let (_, expected) = reference(&tiny(name));
        let error = error(&logits_of(&tiny(name)), &expected);
        assert!(error < 5e-6, "{name}: {error}");
    }
}

#[test]
fn greedy_tokens_equal_the_reference() {
    for name in TINY {
        let (reference, expected) = reference(&tiny(name));
        let unit = expected.iter().fold(1.0f32, |unit, logit| unit.max(logit.abs()));
        assert!(reference.greedy_margin > 2.0 * 5e-6 * unit, "{name}: the fixture decides nothing");
        let (model, prompt) = (load(tiny(name)), &reference.input_ids);
        let (mut cache, sampler) = (model.new_cache(), Sampler::new(Sampling::default()));
        let decoding = Decoding::new(&model, None, prompt, &mut cache, 0, sampler);
        let tokens: Vec<u32> = decoding.take(32).map(|drawn| drawn.unwrap().token).collect();
        assert_eq!(tokens, reference.greedy, "{name}");
    }
}

#[test]
fn decoding_goes_on_from_what_the_cache_holds_until_the_longest_row_is_full() {
    let (reference, _) = reference(&tiny("qwen3_moe"));
    let (model, prompt) = (load(tiny("qwen3_moe")), &reference.input_ids);
    let sampler = || Sampler::new(Sampling { temperature: 1.0, seed: 5, ..Sampling::default() });
    let mut cache = model.new_cache();
    let whole: Vec<_> = Decoding::new(&model, None, prompt, &mut cache, 0, sampler())
        .with_logprobs(Some(2))
        .map(Result::unwrap)
        .collect();
    assert_eq!(prompt.len() + whole.len(), model.max_tokens());
    assert_eq!(cache.len(), model.max_tokens() - 1);
    for n_held in [1, prompt.len() - 1] {
        cache.truncate(n_held);
        let again = Decoding::new(&model, None, prompt, &mut cache, n_held, sampler());
        let again: Vec<u32> = again.map(|drawn| drawn.unwrap().token).collect();
        assert!(again.iter().eq(whole.iter().map(|drawn| &drawn.token)), "from {n_held}");
    }
    let all: Vec<u32> = prompt.iter().copied().chain(whole.iter().map(|d| d.token)).collect();
    let logits = logits(&model, &[all]);
    for (at, drawn) in whole.iter().enumerate().step_by(40) {
        let end = prompt.len() + at;
        let row = &logits[(end - 1) * model.vocab()..end * model.vocab()];
        let (expected, found) = (Logprobs::new(row, drawn.token, 2), drawn.logprobs.as_ref());
        let found = found.unwrap();
        assert!((found.token - expected.token).abs() < 1e-4, "{found:?}, not {expected:?}");
        assert_eq!(found.top.len(), 2);
    }
}

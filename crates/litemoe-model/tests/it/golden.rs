//! What transformers computes; recipe and hashes are in `fixtures/tiny/README.md`.

use std::fs;

use litemoe_core::{Input, LanguageModel, Pass, Sampler, Sampling};
use litemoe_model::{Finish, Stop, generate};
use serde::Deserialize;

use crate::edit;
use crate::setup::{TINY, error, load, tiny, values};

#[derive(Deserialize)]
struct Reference {
    input_ids: Vec<u32>,
    /// Where the others are an encoder's.
    decoder_input_ids: Option<Vec<u32>>,
    greedy: Vec<u32>,
    greedy_margin: f32,
}

fn reference(dir: &std::path::Path) -> (Reference, Vec<f32>) {
    let logits = edit::read(&dir.join("reference.safetensors"))["logits"].clone();
    let logits = logits.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let json = fs::read(dir.join("reference.json")).unwrap();
    (serde_json::from_slice(&json).unwrap(), logits.collect())
}

#[test]
fn logits_equal_the_reference() {
    for name in TINY {
        let (reference, expected) = reference(&tiny(name));
        let ids = vec![reference.input_ids];
        let input = match reference.decoder_input_ids {
            Some(decoder_ids) => Input { rows: vec![decoder_ids], encoder_rows: Some(ids) },
            None => Input::decoder(ids),
        };
        let found = values(&load(tiny(name)).logits(&input, &mut Pass::plain()));
        let error = error(&found, &expected);
        assert!(error < 5e-6, "{name}: {error}");
    }
}

#[test]
fn greedy_tokens_equal_the_reference() {
    for name in TINY {
        let (reference, expected) = reference(&tiny(name));
        let unit = expected.iter().fold(1.0f32, |unit, logit| unit.max(logit.abs()));
        assert!(reference.greedy_margin > 2.0 * 5e-6 * unit, "{name}: the fixture decides nothing");
        let (model, mut sampler) = (load(tiny(name)), Sampler::new(Sampling::default()));
        let stop = Stop { max_new: 32, eos_ids: &[] };
        let mut seen = Vec::new();
        let (tokens, finish) =
            generate(&model, None, &reference.input_ids, &mut sampler, stop, |token| {
                seen.push(token);
                true
            });
        assert_eq!((tokens, finish), (reference.greedy, Finish::Length), "{name}");
        assert_eq!(seen.len(), 32);
    }
}

#[test]
fn generation_ends_at_an_end_token_at_the_longest_row_or_when_cancelled() {
    let (reference, _) = reference(&tiny("qwen3_moe"));
    let model = load(tiny("qwen3_moe"));
    let run = |eos_ids: &[u32], prompt: &[u32], wanted: usize| {
        let mut sampler = Sampler::new(Sampling::default());
        let (mut n, stop) = (0, Stop { max_new: 1000, eos_ids });
        generate(&model, None, prompt, &mut sampler, stop, |_| {
            n += 1;
            n < wanted
        })
    };
    let (prompt, greedy) = (&reference.input_ids, &reference.greedy);
    let end = greedy.iter().position(|token| *token != greedy[0]).unwrap();
    assert_eq!(run(&[greedy[end]], prompt, 99), (greedy[..end].to_vec(), Finish::Eos));
    assert_eq!(run(&[], prompt, 3), (greedy[..3].to_vec(), Finish::Cancelled));
    let (tokens, finish) = run(&[], prompt, 1000);
    assert_eq!((tokens.len() + prompt.len(), finish), (model.max_tokens(), Finish::Length));
}

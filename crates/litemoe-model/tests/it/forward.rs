//! Batching, caching and chunking do not change the logits.

use std::sync::LazyLock;

use litemoe_core::{CausalLm, Input, LanguageModel, Pass, RouterNoise};
use litemoe_model::{KvCache, Model};
use proptest::prelude::*;

use crate::edit::Copy;
use crate::setup::{TINY, error, input, load, logits, row, tiny, values};

static MODELS: LazyLock<[Model; TINY.len()]> = LazyLock::new(|| TINY.map(|name| load(tiny(name))));

fn rows() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0u32..256, 1..24), 1..5)
}

/// Whether a tie between experts decides the rows' logits: noise far below the router logits changes them, so rounding
/// may too.
pub(crate) fn is_tie(model: &Model, rows: &[Vec<u32>]) -> bool {
    let plain = logits(model, rows);
    (0..32).any(|draw| {
        let seeds = (0..).map(|row| 1000 * draw + row).take(rows.len()).collect();
        let noise = RouterNoise { std: 1e-5, seeds };
        let mut pass = Pass { router_noise: Some(&noise), ..Pass::plain() };
        error(&values(&model.logits(&input(model, rows), &mut pass)), &plain) > 1e-3
    })
}

#[test]
fn a_tie_is_told_from_ordinary_rows() {
    // deepseek_v2 routes it one way in one pass and the other way token by token.
    let tie = [
        44, 107, 229, 59, 249, 112, 157, 213, 7, 17, 53, 59, 199, 25, 255, 44, 255, 33, 4, 65, 162,
        220, 137, 229, 15, 37,
    ];
    for (name, model) in TINY.iter().zip(&*MODELS) {
        assert!(!is_tie(model, &[row(24), row(9)]), "{name}");
        assert_eq!(is_tie(model, &[tie.to_vec()]), *name == "deepseek_v2", "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_padded_batch_is_one_row_at_a_time(rows in rows(), model in 0..TINY.len()) {
        let model = &MODELS[model];
        let alone = rows.iter().flat_map(|row| logits(model, std::slice::from_ref(row)));
        let alone: Vec<f32> = alone.collect();
        prop_assert!(error(&logits(model, &rows), &alone) < 2e-5 || is_tie(model, &rows));
    }

    #[test]
    fn cached_decoding_is_one_pass(
        chunks in prop::collection::vec(prop::collection::vec(0u32..256, 1..9), 1..9),
        model in 0..TINY.len() - 1,
    ) {
        let model = &MODELS[model];
        let rows = [chunks.concat()];
        let whole = logits(model, &rows);
        let mut cache = model.new_cache();
        for chunk in &chunks {
            let last = values(&model.extend(chunk, &mut cache, None));
            let expected = &whole[(cache.len() - 1) * model.vocab()..][..model.vocab()];
            prop_assert!(error(&last, expected) < 2e-5 || is_tie(model, &rows));
        }
    }
}

/// Caches of more than one block of the attention kernel, where the model takes as many tokens.
#[test]
fn clones_and_truncated_caches_continue_apart() {
    for (name, model) in TINY.iter().zip(&*MODELS).filter(|(_, model)| !model.has_encoder()) {
        let (tokens, mut cache) = (row(model.max_tokens().min(100)), model.new_cache());
        let (before, after) = tokens.split_at(tokens.len() - 30);
        model.extend(before, &mut cache, None);
        let after = |cache: &mut KvCache| values(&model.extend(after, cache, None));
        let expected = after(&mut cache.clone());
        let mut other = cache.clone();
        model.extend(&row(9), &mut other, None);
        other.truncate(before.len());
        assert_eq!(after(&mut other), expected, "{name}");
        assert_eq!(after(&mut cache), expected, "{name}");
        assert!(
            error(&expected, &values(&model.extend(&tokens, &mut model.new_cache(), None))) < 2e-5
        );
    }
}

#[test]
fn a_decoder_begins_after_its_encoder_as_in_one_pass() {
    let model = MODELS.last().unwrap();
    assert!(model.has_encoder());
    let (prompt, start, rest) = (row(14), model.config().start_id, row(9));
    let rows = vec![[&[start], &rest[..]].concat()];
    let input = Input { rows, encoder_rows: Some(vec![prompt.clone()]) };
    let whole = values(&model.logits(&input, &mut Pass::plain()));
    let expected = |token: usize| &whole[token * model.vocab()..][..model.vocab()];
    let mut cache = model.new_cache();
    assert_eq!(model.begin(&prompt, &mut cache, None), [start]);
    assert!(error(&values(&model.extend(&[start], &mut cache, None)), expected(0)) < 2e-5);
    for (index, chunk) in rest.chunks(4).enumerate() {
        let last = values(&model.extend(chunk, &mut cache, None));
        assert!(error(&last, expected(rest.len().min(4 * (index + 1)))) < 2e-5);
    }
    assert_eq!(model.room_after(prompt.len()), model.max_tokens() - 1);
}

#[test]
fn a_cache_grows_past_its_first_room_and_forgets() {
    let model = &MODELS[0];
    let tokens = row(200);
    let whole = logits(model, std::slice::from_ref(&tokens));
    let mut cache = model.new_cache();
    model.extend(&tokens[..150], &mut cache, None);
    // Another continuation, then the first one from the same position.
    let mut other = cache.clone();
    model.extend(&[1, 2, 3], &mut other, None);
    other.truncate(150);
    for cache in [&mut cache, &mut other] {
        let last = values(&model.extend(&tokens[150..], cache, None));
        assert!(error(&last, &whole[199 * model.vocab()..]) < 2e-5);
        assert_eq!(cache.len(), 200);
    }
}

#[test]
fn driving_the_blocks_by_hand_is_a_pass() {
    for model in &*MODELS {
        let input = input(model, &[row(9), row(4)]);
        let mut pass = Pass::plain();
        let mut stream = model.embed(&input);
        for index in 0..model.n_blocks() {
            stream = model.block(index, stream, &mut pass);
        }
        let last = model.head(stream.select(&[8, 12]), &mut pass);
        let all = logits(model, &input.rows);
        let vocab = model.vocab();
        let expected = [&all[8 * vocab..9 * vocab], &all[12 * vocab..]].concat();
        assert!(error(&values(&last), &expected) < 2e-5);
    }
}

#[test]
fn two_passes_are_equal_bit_for_bit() {
    for model in &*MODELS {
        let rows = [row(20), row(7)];
        assert_eq!(logits(model, &rows), logits(model, &rows));
    }
}

#[test]
fn a_window_longer_than_any_row_hides_nothing() {
    let windowed = |size: u64| {
        let copy = Copy::of("qwen2_moe").config(|config| {
            config.insert("sliding_window".into(), size.into());
        });
        logits(&load(copy.path()), &[row(20)])
    };
    assert_eq!(windowed(u64::MAX), windowed(20));
    assert_ne!(windowed(19), windowed(20));
}

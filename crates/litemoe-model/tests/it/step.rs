//! Batched decode steps, with an adapter, a router bias and a KV cache per row, equal rows run alone.

use std::sync::LazyLock;

use burn::tensor::Device;
use litemoe_core::{
    ByRows, CausalLm, LanguageModel, MountedAdapter, Pass, RouterBias, RouterNoise, RouterRule,
    RowStep, WantedLogits,
};
use litemoe_model::{KvCache, Model};
use proptest::prelude::*;

use crate::router_bias::{bias, random_plan};
use crate::setup::{TINY, error, input, load, random_adapters, row, tiny, values};

static MODELS: LazyLock<[Model; TINY.len()]> = LazyLock::new(|| TINY.map(|name| load(tiny(name))));

/// Three adapters, two of them with a router bias.
fn mounted(index: usize, seed: u64) -> [MountedAdapter; 3] {
    let model = &MODELS[index];
    let with = |bound: f32, router_bias: Option<RouterBias>| MountedAdapter {
        adapters: random_adapters(model, bound, 0.5, &Device::flex()),
        router_bias,
    };
    let plan = |rule, more| random_plan(TINY[index], rule, more, seed);
    let removing = bias(&plan(RouterRule::DropRows, 1), f32::INFINITY);
    let penalising = bias(&plan(RouterRule::Mask, 0), 1.5);
    [with(0.3, Some(removing)), with(0.2, None), with(-0.25, Some(penalising))]
}

fn whole(
    model: &Model,
    row: &[u32],
    mounted: Option<&MountedAdapter>,
    noise: Option<u64>,
) -> Vec<f32> {
    let noise = noise.map(|seed| RouterNoise { std: 1e-5, seeds: vec![seed] });
    let mut pass = Pass { router_noise: noise.as_ref(), ..Pass::mounted(mounted) };
    values(&model.logits(&input(model, &[row.to_vec()]), &mut pass))
}

/// Whether a tie between experts decides a row's logits: noise of 1e-5 on the router logits changes them.
fn is_tie(model: &Model, row: &[u32], mounted: Option<&MountedAdapter>) -> bool {
    let plain = whole(model, row, mounted, None);
    (0..16).any(|seed| error(&whole(model, row, mounted, Some(seed)), &plain) > 1e-3)
}

/// Tokens of a text as steps take them: prefill chunks of the prompt, then single tokens.
fn pieces() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let chunk = || prop::collection::vec(0u32..256, 1..9);
    let single = prop::collection::vec(0u32..256, 1..2);
    (prop::collection::vec(chunk(), 1..3), prop::collection::vec(single, 0..3))
        .prop_map(|(prompt, singles)| [prompt, singles].concat())
}

/// Text being decoded.
struct Text<'a> {
    pieces: Vec<Vec<u32>>,
    mounted: Option<&'a MountedAdapter>,
    cache: KvCache,
    wanted: WantedLogits,
    logits: Vec<Vec<f32>>,
}

impl<'a> Text<'a> {
    /// With an encoder, the decoder's start token is the first piece.
    fn new(model: &Model, text: &[Vec<u32>], mounted: Option<&'a MountedAdapter>) -> Self {
        let (mut cache, mut pieces) = (model.new_cache(), text.to_vec());
        if model.has_encoder() {
            pieces[0] = model.begin(&text[0], &mut cache, mounted);
        }
        let wanted =
            if text[0].len().is_multiple_of(2) { WantedLogits::All } else { WantedLogits::Last };
        Self { pieces, mounted, cache, wanted, logits: Vec::new() }
    }
}

/// Runs all texts, batching those that have a piece left.
fn run(model: &Model, texts: &mut [Text<'_>]) {
    for step in 0.. {
        let rows = texts.iter_mut().filter(|text| step < text.pieces.len());
        let mut rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return;
        }
        let steps = rows.iter_mut().map(|text| RowStep {
            tokens: &text.pieces[step],
            cache: &mut text.cache,
            mounted: text.mounted,
            wanted: text.wanted,
        });
        let logits = values(&model.step(&mut steps.collect::<Vec<_>>()));
        let mut logits = logits.chunks(model.vocab());
        for text in rows {
            let n_rows = text.wanted.n_rows(text.pieces[step].len());
            text.logits.extend(logits.by_ref().take(n_rows).map(<[f32]>::to_vec));
        }
        assert!(logits.next().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(45))]

    #[test]
    fn a_batch_of_eight_rows_is_eight_runs(
        texts in prop::collection::vec(pieces(), 8),
        choices in prop::collection::vec(0usize..4, 8),
        index in 0..TINY.len(), seed in 0u64..1000,
    ) {
        let (model, adapters) = (&MODELS[index], mounted(index, seed));
        let of = |row: usize| adapters.get(choices[row]);
        let begin = |row: usize| Text::new(model, &texts[row], of(row));
        let mut together: Vec<Text<'_>> = (0..8).map(begin).collect();
        run(model, &mut together);
        for (row, together) in together.iter().enumerate() {
            let mut alone = [begin(row)];
            run(model, &mut alone);
            for (found, expected) in together.logits.iter().zip(&alone[0].logits) {
                let far = error(found, expected);
                let tie = || is_tie(model, &texts[row].concat(), of(row));
                prop_assert!(far < 2e-5 || tie(), "{} row {row}: {far}", TINY[index]);
            }
            prop_assert_eq!(together.cache.len(), alone[0].cache.len());
        }
    }

    #[test]
    fn a_pass_of_three_adapters_is_three_passes(
        rows in prop::collection::vec(prop::collection::vec(0u32..256, 1..12), 5),
        index in 0..TINY.len(), seed in 0u64..1000,
    ) {
        let (model, adapters) = (&MODELS[index], mounted(index, seed));
        // Two rows with the first adapter, the third with none.
        let of = [Some(&adapters[0]), Some(&adapters[0]), None, Some(&adapters[1]), Some(&adapters[2])];
        let found = values(&model.logits(&input(model, &rows), &mut Pass::mounted_by_row(of)));
        let expected: Vec<f32> =
            rows.iter().zip(of).flat_map(|(row, mounted)| whole(model, row, mounted, None)).collect();
        let far = error(&found, &expected);
        let tie = || rows.iter().zip(of).any(|(row, mounted)| is_tie(model, row, mounted));
        prop_assert!(far < 2e-5 || tie(), "{}: {far}", TINY[index]);
    }
}

#[test]
fn adapters_reach_their_rows_alone() {
    let (model, adapters) = (&MODELS[0], mounted(0, 1));
    let rows = [row(6), row(6)];
    let ranges = vec![(1..2, &adapters[1].adapters)];
    let mut pass = Pass { adapters: ByRows::ranges(ranges), ..Pass::plain() };
    let found = values(&model.logits(&input(model, &rows), &mut pass));
    let (plain, adapted) = found.split_at(found.len() / 2);
    assert!(error(plain, &whole(model, &rows[0], None, None)) < 2e-5);
    assert!(error(adapted, plain) > 1e-2, "the adapter does nothing");
}

/// 700 tokens are two prefill chunks, and their scores with 12 heads several chunks of queries.
#[test]
fn a_prompt_in_one_step_is_a_prompt_in_chunks() {
    let model = load(litemoe_fixtures::foundation_dir());
    let prompt = row(700);
    let mut cache = model.new_cache();
    let whole = values(&model.extend(&prompt, &mut cache, None));
    let mut cache = model.new_cache();
    let last = prompt
        .chunks(litemoe_core::PREFILL_CHUNK)
        .map(|chunk| values(&model.extend(chunk, &mut cache, None)));
    assert!(error(&last.last().unwrap(), &whole) < 2e-5);
}

/// A mounted adapter with autodiff leaves, or without.
fn mounted_on(device: &Device) -> MountedAdapter {
    let adapters = random_adapters(&MODELS[0], 0.3, 0.5, device);
    MountedAdapter { adapters, router_bias: None }
}

/// Both kinds of attention replace what the other left in a cache.
#[test]
fn a_cleared_cache_forgets_whether_it_had_autodiff() {
    let model = &MODELS[0];
    let plain = mounted_on(&Device::flex());
    let tracked = mounted_on(&Device::flex().autodiff());
    let (left, text, last) = (row(40), vec![9; 20], [3]);
    let run = |cache: &mut KvCache, mounted: &MountedAdapter| {
        cache.truncate(0);
        model.extend(&text, cache, Some(mounted));
        values(&model.extend(&last, cache, Some(mounted)))
    };
    let expected = run(&mut model.new_cache(), &plain);
    for (first, second) in [(&plain, &tracked), (&tracked, &plain), (&plain, &plain)] {
        let mut cache = model.new_cache();
        model.extend(&left, &mut cache, Some(first));
        assert!(error(&run(&mut cache, second), &expected) < 2e-5);
        assert!(error(&run(&mut cache, first), &expected) < 2e-5);
    }
}

#[test]
#[should_panic(expected = "tokens cached with autodiff cannot be continued without it")]
fn a_text_cached_with_autodiff_is_not_continued_without_it() {
    let (model, mut cache) = (&MODELS[0], MODELS[0].new_cache());
    model.extend(&row(40), &mut cache, None);
    cache.truncate(0);
    let tracked = mounted_on(&Device::flex().autodiff());
    model.extend(&row(20), &mut cache, Some(&tracked));
    model.extend(&[3], &mut cache, None);
}

#[test]
#[should_panic(expected = "tokens cached without autodiff cannot be continued with it")]
fn a_text_cached_without_autodiff_is_not_continued_with_it() {
    let (model, mut cache) = (&MODELS[0], MODELS[0].new_cache());
    let tracked = mounted_on(&Device::flex().autodiff());
    model.extend(&row(40), &mut cache, Some(&tracked));
    cache.truncate(0);
    model.extend(&row(20), &mut cache, None);
    model.extend(&[3], &mut cache, Some(&tracked));
}

#[test]
fn the_logits_after_every_token_of_a_step_are_those_of_one_pass() {
    for (name, model) in TINY.iter().zip(&*MODELS).filter(|(_, model)| !model.has_encoder()) {
        let (tokens, mut cache) = (row(40), model.new_cache());
        let mut found = Vec::new();
        for tokens in tokens.chunks(17) {
            let (cache, wanted) = (&mut cache, WantedLogits::All);
            let step = &mut [RowStep { tokens, cache, mounted: None, wanted }];
            found.extend(values(&model.step(step)));
        }
        let far = error(&found, &whole(model, &tokens, None, None));
        assert!(far < 2e-5 || is_tie(model, &tokens, None), "{name}: {far}");
        assert_eq!(model.n_cached(&cache), 40);
        let bytes = model.cache_bytes(&cache);
        let shorter = model.cache_bytes(&{
            let mut cache = model.new_cache();
            model.extend(&tokens[..1], &mut cache, None);
            cache
        });
        assert!(bytes >= shorter && shorter > 0, "{name}: {bytes} {shorter}");
    }
}

#[test]
#[should_panic(expected = "every row has tokens to run")]
fn a_row_without_tokens_is_refused() {
    let model = &MODELS[0];
    let (tokens, mut cache) = (&[][..], model.new_cache());
    model.extend(tokens, &mut cache, None);
}

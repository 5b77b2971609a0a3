use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::History;
use super::kept::kept;
use super::{Logprobs, Sampler, Sampling};

const LOGITS: [f32; 10] = [1.5, -0.25, 3.0, 2.75, -1.0, 0.5, 2.0, -3.0, 0.0, 1.0];
const CONTEXT: [u32; 5] = [2, 7, 7, 6, 1];

/// Candidate tokens and their probabilities, largest first.
fn probabilities(rule: &Sampling, history: &History, logits: &[f32]) -> Vec<(u32, f64)> {
    let kept = kept(rule, &history.penalised(rule, logits));
    let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
    let share = |(token, weight): (u32, f64)| (token, weight / total);
    let mut shares: Vec<_> = kept.into_iter().map(share).collect();
    shares.sort_by(|x, y| y.1.total_cmp(&x.1));
    shares
}

fn after(prompt: &[u32], drawn: &[u32]) -> History {
    let mut history = History::default();
    history.read(prompt);
    drawn.iter().for_each(|&token| history.draw(token));
    history
}

fn close(x: &[(u32, f64)], y: &[(u32, f64)]) -> bool {
    let close = |(x, y): (&(u32, f64), &(u32, f64))| x.0 == y.0 && (x.1 - y.1).abs() < 1e-6;
    x.len() == y.len() && x.iter().zip(y).all(close)
}

/// Expected values: `LogitsProcessorList` of transformers 5.23.0 on f64 logits with those of
/// `SequenceBiasLogitsProcessor`, `RepetitionPenaltyLogitsProcessor`, `TemperatureLogitsWarper`, `TopKLogitsWarper`,
/// `TopPLogitsWarper` and `MinPLogitsWarper` that the case sets, then a softmax.
#[test]
fn probabilities_equal_transformers() {
    let plain = Sampling { temperature: 1.0, ..Sampling::default() };
    let mixed = Sampling { temperature: 1.5, top_k: 6, top_p: 0.7, ..plain.clone() };
    let cases: [(Sampling, &[(u32, f64)]); 10] = [
        (
            Sampling { temperature: 0.7, ..plain.clone() },
            &[
                (2, 0.461026),
                (3, 0.322568),
                (6, 0.110485),
                (0, 0.054087),
                (9, 0.026478),
                (5, 0.012962),
                (8, 0.006345),
                (1, 0.004440),
                (4, 0.001521),
                (7, 0.000087),
            ],
        ),
        (
            Sampling { temperature: 1.3, top_k: 4, ..plain.clone() },
            &[(2, 0.384048), (3, 0.316860), (6, 0.177956), (0, 0.121137)],
        ),
        (
            Sampling { top_p: 0.8, ..plain.clone() },
            &[(2, 0.421975), (3, 0.328634), (6, 0.155236), (0, 0.094155)],
        ),
        (Sampling { top_p: 0.0, ..plain.clone() }, &[(2, 1.0)]),
        (
            Sampling { temperature: 2.0, min_p: 0.3, ..plain.clone() },
            &[(2, 0.300366), (3, 0.265072), (6, 0.182181), (0, 0.141883), (9, 0.110498)],
        ),
        (
            Sampling { repetition_penalty: 1.3, ..plain.clone() },
            &[
                (3, 0.378659),
                (2, 0.243308),
                (6, 0.112742),
                (0, 0.108488),
                (9, 0.065801),
                (5, 0.039910),
                (8, 0.024207),
                (1, 0.017490),
                (4, 0.008905),
                (7, 0.000490),
            ],
        ),
        (
            Sampling { repetition_penalty: 0.6, top_k: 3, ..plain },
            &[(2, 0.772633), (6, 0.145932), (3, 0.081435)],
        ),
        (Sampling { min_p: 0.25, ..mixed.clone() }, &[(2, 0.423747), (3, 0.358694), (6, 0.217559)]),
        (Sampling { min_p: 0.6, ..mixed }, &[(2, 0.541570), (3, 0.458430)]),
        (
            Sampling {
                logit_bias: [(5, 1.5), (3, -0.5)].into(),
                repetition_penalty: 1.8,
                temperature: 0.8,
                top_k: 7,
                top_p: 0.9,
                min_p: 0.05,
                ..Sampling::default()
            },
            &[(3, 0.351324), (5, 0.257034), (2, 0.169447), (0, 0.137580), (6, 0.084614)],
        ),
    ];
    for (rule, expected) in cases {
        // The repetition penalty treats prompt and sampled tokens alike.
        for n_prompt in [0, 2, CONTEXT.len()] {
            let (prompt, drawn) = CONTEXT.split_at(n_prompt);
            let found = probabilities(&rule, &after(prompt, drawn), &LOGITS);
            assert!(close(&found, expected), "{rule:?}: {found:?}");
        }
    }
}

#[test]
fn top_p_reaches_far_where_it_must() {
    let uniform = vec![0.0; 10_000];
    for (top_p, expected) in [(0.01, 100), (0.013, 130), (0.5, 5000), (0.9999, 9999)] {
        let rule = Sampling { temperature: 1.0, top_p, ..Sampling::default() };
        let kept: BTreeSet<u32> = tokens(&kept(&rule, &uniform));
        let n_kept = kept.len() as i64;
        assert!((n_kept - expected).abs() <= 1, "{top_p}: {n_kept}");
        assert!(kept.into_iter().eq(0..n_kept as u32), "ties go to the lower id");
    }
}

#[test]
fn presence_and_frequency_count_what_was_drawn() {
    let rule = Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, ..Sampling::default() };
    let scores = after(&[0, 1, 1], &[1, 2, 2]).penalised(&rule, &[1.0; 4]);
    assert_eq!(scores, [1.0, 0.25, 0.0, 1.0]);
}

#[test]
fn greedy_draws_are_penalised_too() {
    let rule = Sampling { frequency_penalty: 1.0, ..Sampling::default() };
    let mut sampler = Sampler::new(rule);
    let drawn: Vec<u32> = (0..6).map(|_| sampler.next(&[0.0, 2.5, 1.0])).collect();
    assert_eq!(drawn, [1, 1, 2, 1, 0, 2]);
    let mut sampler = Sampler::new(Sampling { repetition_penalty: 3.0, ..Sampling::default() });
    sampler.read(&[1]);
    assert_eq!(sampler.next(&[0.0, 2.5, 1.0]), 2);
}

#[test]
fn temperature_zero_is_the_arg_max() {
    assert_eq!(Sampler::new(Sampling::default()).next(&[0.0, 3.0, 3.0, -1.0]), 1);
}

#[test]
fn one_seed_gives_one_sequence_for_each_text() {
    let rule = Sampling { temperature: 1.0, seed: 7, ..Default::default() };
    let draw = |rule: &Sampling, text| {
        let mut sampler = Sampler::new(rule.clone()).for_text(text);
        (0..50).map(|_| sampler.next(&[0.1, 0.2, 0.3, 0.4])).collect::<Vec<_>>()
    };
    let first = draw(&rule, 0);
    assert_eq!(first, draw(&rule, 0));
    assert_ne!(first, draw(&rule, 1));
    assert_ne!(first, draw(&Sampling { seed: 8, ..rule.clone() }, 0));
    let mut plain = Sampler::new(rule);
    assert_eq!(first[0], plain.next(&[0.1, 0.2, 0.3, 0.4]));
}

#[test]
fn draws_follow_the_probabilities() {
    let mut sampler = Sampler::new(Sampling { temperature: 1.0, ..Default::default() });
    let logits = [0.25f32.ln(), 0.75f32.ln()];
    let ones = (0..4000).filter(|_| sampler.next(&logits) == 1).count();
    assert!((2850..3150).contains(&ones), "{ones} of 4000, expected about 3000");
}

#[test]
fn log_probabilities_are_the_models_own() {
    let Logprobs { token, top } =
        Logprobs::new(&[1f32.ln(), 5f32.ln(), 1f32.ln(), 3f32.ln()], 0, 3);
    let expected = [(1, 0.5f32.ln()), (3, 0.3f32.ln()), (0, 0.1f32.ln())];
    assert!((token - 0.1f32.ln()).abs() < 1e-6, "{token}");
    for (found, expected) in top.iter().zip(expected) {
        assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6, "{found:?}");
    }
    assert_eq!(top.len(), 3);
}

fn rule() -> impl Strategy<Value = Sampling> {
    let penalties = (0.5f32..2.0, -2f32..2.0, -2f32..2.0);
    let bias = prop::collection::btree_map(0u32..12, -9f32..9.0, 0..3);
    let rule = (0.1f32..3.0, 0usize..9, 0f32..1.0, 0f32..1.0, penalties, bias);
    rule.prop_map(|(temperature, top_k, top_p, min_p, penalties, logit_bias)| {
        let (repetition_penalty, presence_penalty, frequency_penalty) = penalties;
        Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            logit_bias,
            seed: 0,
        }
    })
}

fn tokens(kept: &[(u32, f64)]) -> BTreeSet<u32> {
    kept.iter().map(|&(token, _)| token).collect()
}

proptest! {
    #[test]
    fn a_draw_is_a_token_that_is_kept(
        rule in rule(),
        logits in vec(-9f32..9.0, 1..12),
        context in vec(0u32..12, 0..9),
    ) {
        rule.check().unwrap();
        let mut sampler = Sampler::new(rule.clone());
        sampler.read(&context);
        let kept = tokens(&probabilities(&rule, &after(&context, &[]), &logits));
        prop_assert!(kept.contains(&sampler.next(&logits)));
    }

    #[test]
    fn a_narrower_rule_keeps_fewer_tokens(
        rule in rule(),
        logits in vec(-9f32..9.0, 1..12),
        tighter in 0f32..1.0,
    ) {
        let keeps = |rule: &Sampling| tokens(&probabilities(rule, &History::default(), &logits));
        let wide = keeps(&rule);
        for narrow in [
            Sampling { min_p: rule.min_p.max(tighter), ..rule.clone() },
            Sampling { top_p: rule.top_p.min(tighter), ..rule.clone() },
            Sampling { top_k: 1, ..rule.clone() },
        ] {
            let narrow = keeps(&narrow);
            prop_assert!(!narrow.is_empty() && narrow.is_subset(&wide));
        }
    }

    #[test]
    fn one_kept_token_is_the_greedy_one(
        rule in rule(),
        logits in vec(-9f32..9.0, 1..12),
        context in vec(0u32..12, 0..9),
    ) {
        let draw = |rule| {
            let mut sampler = Sampler::new(rule);
            sampler.read(&context);
            sampler.next(&logits)
        };
        let greedy = draw(Sampling { temperature: 0.0, ..rule.clone() });
        prop_assert_eq!(draw(Sampling { top_k: 1, ..rule.clone() }), greedy);
        prop_assert_eq!(draw(Sampling { top_p: 0.0, ..rule }), greedy);
    }

    #[test]
    fn the_same_amount_more_on_every_logit_changes_nothing(
        logits in vec(-9f32..9.0, 1..12),
        more in -50f32..50.0,
    ) {
        let moved: Vec<f32> = logits.iter().map(|logit| logit + more).collect();
        let n = logits.len();
        let (plain, moved) = (Logprobs::new(&logits, 0, n), Logprobs::new(&moved, 0, n));
        prop_assert!((plain.token - moved.token).abs() < 1e-4);
        let total: f64 = plain.top.iter().map(|&(_, logprob)| f64::from(logprob).exp()).sum();
        prop_assert!((total - 1.0).abs() < 1e-5, "{total}");
        prop_assert!(plain.top.is_sorted_by(|x, y| x.1 >= y.1));
    }
}

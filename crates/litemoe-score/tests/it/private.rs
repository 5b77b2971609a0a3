//! Differential privacy of scores: the released sums, their sensitivity to one row, and the noise.

use litemoe_core::{Criterion, ExpertScores, ExpertSum, LayerId, MoeModel, Privacy, ScoresError};
use litemoe_score::{ScoreError, ScoreOptions, score, score_private};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use crate::properties::{about, rows, toys};
use crate::toy::{Shape, Toy};

/// Noise too small to change a rounded sum, but for those exactly between two.
const ALMOST_NONE: f64 = 1e-9;

/// Half the distance of two rounded sums, in rows.
const ROUNDING: f64 = 1.0 / 32.0;

const CRITERIA: [Criterion; 6] = [
    Criterion::Litemoe,
    Criterion::Frequency,
    Criterion::SoftCount,
    Criterion::Ean,
    Criterion::Task,
    Criterion::Reap,
];

fn private(model: &Toy, rows: &[Vec<u32>], privacy: Privacy, seed: u64) -> ExpertScores {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let options = ScoreOptions::default();
    score_private(model, rows, &options, privacy, &about(), &mut rng, drop).unwrap().scores
}

fn plain(model: &Toy, rows: &[Vec<u32>]) -> ExpertScores {
    score(model, rows, &ScoreOptions::default(), &about(), drop).unwrap().scores
}

/// All released sums, in shares of rows, and half the distance of two values of each.
fn released(scores: &ExpertScores) -> Vec<(f64, f64)> {
    let criterion = scores.privacy.unwrap().criterion;
    let mut found = Vec::new();
    for sums in scores.layers.values() {
        for quantity in criterion.sums() {
            let top_k = sums.top_k as f64;
            let values = match quantity {
                ExpertSum::Count => {
                    let share = |&count: &u64| (count as f64 / top_k, 0.5 / top_k);
                    found.extend(sums.count.iter().map(share));
                    continue;
                }
                ExpertSum::Prob => &sums.prob,
                ExpertSum::Gate => &sums.gate,
                ExpertSum::Norm => &sums.norm,
                ExpertSum::GateNorm => &sums.gate_norm,
            };
            found.extend(values.values().iter().map(|&value| (value, ROUNDING)));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_row_adds_its_shares(model in toys(), rows in rows()) {
        for criterion in CRITERIA.into_iter().filter(|criterion| criterion.sums().len() == 1) {
            let privacy = Privacy { criterion, noise_multiplier: ALMOST_NONE };
            let scores = private(&model, &rows, privacy, 0);
            for layer in model.moe_layers() {
                let mut expected = vec![0.0; layer.n_experts];
                for row in &rows {
                    let alone = plain(&model, std::slice::from_ref(row));
                    let values = alone.of(layer.id, criterion).unwrap();
                    let total: f64 = values.iter().sum();
                    expected.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / total);
                }
                let found = scores.of(layer.id, criterion).unwrap();
                // These two are means over tokens, of which a row counts as one.
                let (per_row, rounding) = match criterion {
                    Criterion::Litemoe => (rows.len() as f64, ROUNDING),
                    Criterion::Frequency => (rows.len() as f64 / layer.top_k as f64, 0.5),
                    _ => (1.0, ROUNDING),
                };
                for (found, expected) in found.iter().map(|value| value * per_row).zip(expected) {
                    let off = (found - expected).abs();
                    prop_assert!(off <= rounding + 1e-5, "{criterion}: {found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn one_row_changes_the_sums_by_no_more_than_the_sensitivity(model in toys(), rows in rows(), left_out in 0usize..8) {
        for criterion in CRITERIA {
            let privacy = Privacy { criterion, noise_multiplier: ALMOST_NONE };
            let mut fewer = rows.clone();
            fewer.remove(left_out % rows.len());
            prop_assume!(!fewer.is_empty());
            let (all, fewer) = (released(&private(&model, &rows, privacy, 0)), released(&private(&model, &fewer, privacy, 0)));
            let of = |norm: fn(f64, f64, f64) -> f64| {
                let each = all.iter().zip(&fewer).map(|(&(x, half), &(y, _))| norm(x, y, half));
                each.map(|value| value * value).sum::<f64>().sqrt()
            };
            let distance = of(|x, y, _| x - y);
            let sensitivity = privacy.std(model.moe_layers().len()) / privacy.noise_multiplier;
            // Both are rounded.
            let rounding = of(|_, _, half| 2.0 * half);
            prop_assert!(distance <= sensitivity + rounding, "{criterion}: {distance} > {sensitivity} + {rounding}");
        }
    }
}

#[test]
fn the_noise_has_the_standard_deviation_that_is_promised() {
    let model = Toy::random(Shape { blocks: 2, n_experts: 3, top_k: 2 }, 1);
    // So many rows that no sum falls below 0.
    let rows: Vec<Vec<u32>> = (0..150).map(|i| vec![i % 19, (7 * i) % 19]).collect();
    let of = |noise_multiplier| Privacy { criterion: Criterion::Task, noise_multiplier };
    let exact = private(&model, &rows, of(ALMOST_NONE), 0);
    let privacy = of(2.0);
    let std = privacy.std(2);
    assert!((std - 2.0 * 2f64.sqrt()).abs() < 1e-12);
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for seed in 0..60 {
        let noisy = private(&model, &rows, privacy, seed);
        for (layer, sums) in &noisy.layers {
            let exact = exact.layers[layer].gate_norm.values();
            assert!(exact.iter().all(|sum| *sum > 5.0 * std), "{exact:?}");
            for (noisy, exact) in sums.gate_norm.values().iter().zip(exact) {
                let noise = noisy - exact;
                (n, sum, squares) = (n + 1.0, sum + noise, squares + noise * noise);
            }
        }
    }
    let (mean, found) = (sum / n, (squares / n).sqrt());
    // 360 samples: three standard errors of the mean and of the deviation.
    assert!(mean.abs() < 3.0 * std / n.sqrt(), "the mean is {mean}");
    assert!((found / std - 1.0).abs() < 3.0 / (2.0 * n).sqrt(), "{found}, not {std}");
}

#[test]
fn private_scores_hold_nothing_but_what_was_released() {
    let model = Toy::random(Shape { blocks: 1, n_experts: 4, top_k: 2 }, 3);
    let rows = [vec![1, 2, 3], vec![4, 5], vec![6]];
    let privacy = Privacy { criterion: Criterion::Task, noise_multiplier: 1.0 };
    let (one, other) = (private(&model, &rows, privacy, 1), private(&model, &rows, privacy, 2));
    let plain = plain(&model, &rows);
    assert_ne!(one.input_sha256, other.input_sha256);
    assert_ne!(one.shards, other.shards);
    for hash in plain.shards.iter().map(|shard| &shard.sha256).chain([&plain.input_sha256]) {
        assert!(!serde_json::to_string(&one).unwrap().contains(hash.as_str()));
    }
    assert_eq!((one.rows(), one.tokens()), (3, 0));
    let sums = &one.layers[&LayerId::decoder(0)];
    assert_eq!((sums.tokens, &sums.count[..]), (3, &[0; 4][..]));
    for silent in [&sums.prob, &sums.gate, &sums.norm] {
        assert_eq!(silent.values(), [0.0; 4]);
    }
    for sum in sums.gate_norm.values() {
        assert!(*sum >= 0.0 && (sum * 16.0).fract() == 0.0, "{sum}");
    }
    for criterion in Criterion::ALL {
        let has = matches!(criterion, Criterion::Task | Criterion::Random);
        assert_eq!(one.has(*criterion), has, "{criterion}");
        assert_eq!(one.of(LayerId::decoder(0), *criterion).is_some(), has, "{criterion}");
    }
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(ExpertScores::from_json(&json).unwrap(), one);
}

#[test]
fn private_scores_add_up_with_those_of_the_same_privacy() {
    let model = Toy::random(Shape { blocks: 1, n_experts: 4, top_k: 2 }, 3);
    let privacy = Privacy { criterion: Criterion::Task, noise_multiplier: 1.0 };
    let of = |row: u32, privacy| private(&model, &[vec![row]], privacy, row.into());
    let (one, other) = (of(1, privacy), of(2, privacy));
    let sum = one.clone().merged(&other).unwrap();
    assert_eq!((sum.rows(), sum.privacy), (2, Some(privacy)));
    let refused = |other: &ExpertScores| match one.clone().merged(other) {
        Err(ScoresError::OtherOption { option }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&of(3, Privacy { noise_multiplier: 2.0, ..privacy })), "privacy");
    let options = ScoreOptions { batch: 1, ..ScoreOptions::default() };
    let plain = score(&model, &[vec![4]], &options, &about(), drop).unwrap().scores;
    assert_eq!(refused(&plain), "privacy");
}

#[test]
fn what_cannot_be_private_is_refused() {
    let model = Toy::random(Shape { blocks: 1, n_experts: 4, top_k: 2 }, 3);
    let refused = |privacy, options: &ScoreOptions| {
        let mut rng = ChaCha20Rng::seed_from_u64(0);
        let rows = [vec![1]];
        score_private(&model, &rows, options, privacy, &about(), &mut rng, drop).unwrap_err()
    };
    let options = ScoreOptions::default();
    for noise_multiplier in [0.0, -1.0, 1e7, f64::NAN, f64::INFINITY] {
        let privacy = Privacy { criterion: Criterion::Task, noise_multiplier };
        let refusal = refused(privacy, &options);
        assert!(matches!(refusal, ScoreError::NoiseMultiplier { .. }), "{refusal}");
    }
    let privacy = Privacy { criterion: Criterion::Random, noise_multiplier: 1.0 };
    let refusal = refused(privacy, &options);
    assert_eq!(refusal, ScoreError::NothingReleased { criterion: Criterion::Random });
    let similar =
        ScoreOptions { similarities: litemoe_core::SimilarityKind::ALL.to_vec(), ..options };
    let privacy = Privacy { criterion: Criterion::Task, noise_multiplier: 1.0 };
    assert_eq!(refused(privacy, &similar), ScoreError::PrivateSimilarity);
    let scores = private(&model, &[vec![1]], privacy, 0);
    let mut written = serde_json::to_value(&scores).unwrap();
    written["privacy"]["noise_multiplier"] = 0.into();
    let read = ExpertScores::from_json(&written.to_string());
    assert!(matches!(read, Err(ScoresError::NoiseMultiplier)), "{read:?}");
}

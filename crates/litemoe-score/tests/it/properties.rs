use std::collections::BTreeMap;

use litemoe_core::{
    Criterion, ExactSums, ExpertScores, Fingerprint, Input, LayerId, LayerSums, MoeModel,
    Similarity, SimilarityKind, sha256_hex,
};
use litemoe_score::{About, Measurement, ScoreOptions, Scored, Warning, score};
use proptest::prelude::*;

use crate::toy::{MAX_TOKENS, Shape, Toy, VOCAB};

pub(crate) fn about() -> About {
    About {
        fingerprint: Fingerprint::new("f"),
        model: "toy".into(),
        family: "toy_moe".into(),
        program: "0".into(),
    }
}

fn options(batch: usize) -> ScoreOptions {
    ScoreOptions { batch, similarities: SimilarityKind::ALL.to_vec(), ..Default::default() }
}

fn scored(model: &Toy, rows: &[Vec<u32>], batch: usize) -> Scored {
    scored_with(model, rows, &options(batch))
}

fn scored_with(model: &Toy, rows: &[Vec<u32>], options: &ScoreOptions) -> Scored {
    score(model, rows, options, &about(), drop).unwrap()
}

pub(crate) fn toys() -> impl Strategy<Value = Toy> {
    (1usize..3, 2usize..6, 1usize..3, any::<u64>()).prop_map(|(blocks, n_experts, top_k, seed)| {
        Toy::random(Shape { blocks, n_experts, top_k }, seed)
    })
}

pub(crate) fn rows() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..VOCAB as u32, 1..=MAX_TOKENS), 1..8)
}

/// All numbers of a layer in a fixed order: its sums and the scores of every criterion.
fn numbers(layer: LayerId, sums: &LayerSums) -> Vec<f64> {
    let counts = sums.count.iter().map(|&count| count as f64);
    let exact = [&sums.prob, &sums.gate, &sums.norm, &sums.gate_norm];
    let exact = exact.into_iter().flat_map(|sums| sums.values().to_vec());
    let scores = Criterion::ALL.iter().flat_map(|criterion| criterion.values(layer, sums, 0));
    counts.chain(exact).chain(scores).collect()
}

fn similarities(scores: &ExpertScores) -> impl Iterator<Item = Similarity> {
    SimilarityKind::ALL.iter().map(|&kind| scores.similarity(kind).unwrap())
}

fn assert_close(x: &[f64], y: &[f64], tolerance: f64) {
    assert_eq!(x.len(), y.len());
    let largest = y.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    for (x, y) in x.iter().zip(y) {
        assert!((x - y).abs() <= tolerance * largest, "{x} is not {y}");
    }
}

fn assert_all_close(x: &Scored, y: &Scored, tolerance: f64) {
    for (&layer, sums) in &x.scores.layers {
        let others = &y.scores.layers[&layer];
        assert_close(&numbers(layer, sums), &numbers(layer, others), tolerance);
    }
    for (x, y) in similarities(&x.scores).zip(similarities(&y.scores)) {
        for (layer, table) in &x.layers {
            assert_close(&table.concat(), &y.layers[layer].concat(), tolerance);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn scores_do_not_depend_on_batch_borders(model in toys(), rows in rows(), batch in 1usize..9) {
        assert_all_close(&scored(&model, &rows, batch), &scored(&model, &rows, 1), 1e-4);
    }

    #[test]
    fn shards_add_up(model in toys(), rows in rows(), cut in 0usize..8) {
        let cut = cut.min(rows.len());
        let measure = |rows: &[Vec<u32>]| {
            let mut measurement = Measurement::new(model.moe_layers(), SimilarityKind::ALL);
            let batches = rows.iter().map(|row| Input::decoder(vec![row.clone()]));
            let batches: Vec<Input> = batches.collect();
            measurement.add_batches(&model, &batches, drop).unwrap();
            measurement
        };
        let (whole, mut sum) = (measure(&rows), measure(&rows[cut..]));
        sum.merge(&measure(&rows[..cut])).unwrap();
        // bit for bit, sums of both similarities included
        prop_assert_eq!(sum.into_layers(), whole.into_layers());
    }

    #[test]
    fn all_batches_through_a_block_are_one_batch_after_the_other(
        model in toys(),
        rows in rows(),
        batch in 1usize..4,
        held_tokens in 0usize..20,
    ) {
        let mut alone = Measurement::new(model.moe_layers(), SimilarityKind::ALL);
        for rows in rows.chunks(batch) {
            alone.add_batches(&model, &[Input::decoder(rows.to_vec())], drop).unwrap();
        }
        let scored = scored_with(&model, &rows, &ScoreOptions { held_tokens, ..options(batch) });
        prop_assert_eq!(scored.scores.layers, alone.into_layers());
    }

    #[test]
    fn permuting_experts_permutes_scores(
        (model, order) in toys().prop_flat_map(|model| {
            let n_experts = model.moe_layers()[0].n_experts;
            (Just(model), Just((0..n_experts).collect::<Vec<_>>()).prop_shuffle())
        }),
        rows in rows(),
    ) {
        let (plain, permuted) = (scored(&model, &rows, 4), scored(&model.permuted(&order), &rows, 4));
        for &layer in plain.scores.layers.keys() {
            for &criterion in Criterion::ALL.iter().filter(|&&criterion| criterion != Criterion::Random) {
                let values = plain.scores.of(layer, criterion).unwrap();
                let moved: Vec<f64> = order.iter().map(|&expert| values[expert]).collect();
                assert_close(&permuted.scores.of(layer, criterion).unwrap(), &moved, 1e-4);
            }
            for (plain, permuted) in similarities(&plain.scores).zip(similarities(&permuted.scores)) {
                let table = &plain.layers[&layer];
                let moved = order.iter().flat_map(|&i| order.iter().map(move |&j| table[i][j]));
                assert_close(&permuted.layers[&layer].concat(), &moved.collect::<Vec<_>>(), 1e-4);
            }
        }
    }

    #[test]
    fn sums_agree_with_what_routing_promises(model in toys(), rows in rows()) {
        let scores = scored(&model, &rows, 4).scores;
        let tokens: usize = rows.iter().map(Vec::len).sum();
        prop_assert_eq!(scores.tokens(), tokens as u64);
        for layer in scores.layers.values() {
            let sum = |values: &[f64]| values.iter().sum::<f64>();
            prop_assert_eq!(layer.count.iter().sum::<u64>(), (tokens * layer.top_k) as u64);
            let totals = [sum(layer.prob.values()), sum(layer.gate.values())];
            assert_close(&totals, &[tokens as f64; 2], 1e-5);
            for (&count, &gate_norm) in layer.count.iter().zip(layer.gate_norm.values()) {
                prop_assert!(count > 0 || gate_norm == 0.0);
            }
        }
    }

    #[test]
    fn two_runs_give_the_same_bytes(model in toys(), rows in rows()) {
        let json = || serde_json::to_string(&scored(&model, &rows, 3).scores).unwrap();
        prop_assert_eq!(json(), json());
    }

    #[test]
    fn similarities_are_symmetric_and_bounded(model in toys(), rows in rows()) {
        for similarity in similarities(&scored(&model, &rows, 4).scores) {
            for table in similarity.layers.values() {
                for (i, row) in table.iter().enumerate() {
                    for (j, &value) in row.iter().enumerate() {
                        prop_assert_eq!(value, table[j][i]);
                        prop_assert!((-1.0 - 1e-9..=1.0 + 1e-9).contains(&value));
                    }
                }
            }
        }
    }
}

#[test]
fn criteria_are_what_their_names_say() {
    let model = Toy::random(Shape { blocks: 1, n_experts: 4, top_k: 2 }, 3);
    let scores = scored(&model, &[vec![1, 2, 3], vec![4, 5]], 2).scores;
    let layer = LayerId::decoder(0);
    let (sums, of) = (&scores.layers[&layer], |criterion| scores.of(layer, criterion).unwrap());
    let values = |sums: &ExactSums| sums.values().to_vec();
    let [prob, gate] = [values(&sums.prob), values(&sums.gate)];
    let [norm, gate_norm] = [values(&sums.norm), values(&sums.gate_norm)];
    for e in 0..4 {
        let count = sums.count[e] as f64;
        let chosen = count.max(1.0);
        for (criterion, value) in [
            (Criterion::Litemoe, prob[e] / 5.0),
            (Criterion::Frequency, count / 5.0),
            (Criterion::SoftCount, gate[e]),
            (Criterion::Ean, norm[e]),
            (Criterion::Task, gate_norm[e]),
            (Criterion::Reap, gate_norm[e] / chosen),
            (Criterion::Man, norm[e] / chosen),
            (Criterion::EsftGate, gate[e] / 5.0),
            (Criterion::EsftToken, count / 10.0),
        ] {
            assert!((of(criterion)[e] - value).abs() < 1e-12, "{criterion} of expert {e}");
        }
    }
}

#[test]
fn equal_experts_are_as_alike_as_can_be() {
    let mut model = Toy::random(Shape { blocks: 1, n_experts: 3, top_k: 3 }, 5);
    model.blocks[0] = model.blocks[0].permuted(&[0, 1, 0]);
    let scored = scored(&model, &[vec![1, 2, 3, 4], vec![5, 6]], 2);
    let of = |kind: SimilarityKind| {
        scored.scores.similarity(kind).unwrap().layers[&LayerId::decoder(0)].clone()
    };
    let outputs = of(SimilarityKind::ExpertOutputGated);
    assert!((outputs[0][2] - 1.0).abs() < 1e-6);
    assert!(outputs[0][1] < 0.999);
    let p = scored.scores.of(LayerId::decoder(0), Criterion::Litemoe).unwrap();
    assert!((of(SimilarityKind::Affinity)[0][2] - (0.8 + 0.2 * p[0])).abs() < 1e-6);
}

#[test]
fn random_scores_follow_the_seed_alone() {
    let draw = |blocks, model_seed, seed| {
        let model = Toy::random(Shape { blocks, n_experts: 5, top_k: 1 }, model_seed);
        let options = ScoreOptions { seed, ..Default::default() };
        let scores = score(&model, &[[1u32, 2]], &options, &about(), drop).unwrap().scores;
        let random = |&layer: &LayerId| (layer, scores.of(layer, Criterion::Random).unwrap());
        scores.layers.keys().map(random).collect::<BTreeMap<_, _>>()
    };
    let (two, one) = (draw(2, 1, 7), draw(1, 2, 7));
    let first = LayerId::decoder(0);
    assert_eq!(two[&first], one[&first]);
    assert_ne!(two[&first], two[&LayerId::decoder(1)]);
    assert_ne!(one, draw(1, 2, 8));
    assert!(one[&first].iter().all(|value| (0.0..1.0).contains(value)));
}

#[test]
fn the_record_names_its_input_and_progress_counts_rows_and_blocks() {
    let model = Toy::random(Shape { blocks: 2, n_experts: 2, top_k: 1 }, 0);
    let rows: Vec<Vec<u32>> = (0..33).map(|row| vec![row % 7, 3]).collect();
    let mut done = Vec::new();
    let scored = score(&model, &rows, &options(16), &about(), |rows| done.push(rows)).unwrap();
    let bytes: Vec<u8> = rows.concat().iter().flat_map(|id| id.to_le_bytes()).collect();
    assert_eq!(scored.scores.input_sha256, sha256_hex(&bytes));
    let similarity = scored.scores.similarity(SimilarityKind::Affinity).unwrap();
    assert_eq!(similarity.input_sha256, scored.scores.input_sha256);
    assert_eq!((scored.scores.rows(), scored.scores.tokens()), (33, 66));
    let without_mask = |row: &Vec<u32>| {
        let numbers = [0u64, row.len() as u64].map(u64::to_le_bytes).concat();
        let ids = row.iter().flat_map(|id| id.to_le_bytes()).collect();
        [numbers, ids, vec![0; row.len()]].concat()
    };
    // A shard is a batch of 16 rows.
    let hash = |rows: &[Vec<u32>]| {
        let bytes: Vec<u8> = rows.iter().flat_map(without_mask).collect();
        (sha256_hex(&bytes), rows.len() as u64)
    };
    let mut hashes: Vec<_> = rows.chunks(16).map(hash).collect();
    hashes.sort();
    let shards = scored.scores.shards.iter().map(|shard| (shard.sha256.clone(), shard.rows));
    assert_eq!(shards.collect::<Vec<_>>(), hashes);
    assert_eq!(done, [16, 32, 33, 49, 65, 66]);
    assert_eq!(scored.warnings, []);
    let few = score(&model, &rows[..31], &options(16), &about(), drop).unwrap();
    assert_eq!(few.warnings, [Warning::FewRows { rows: 31 }]);
}

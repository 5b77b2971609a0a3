use std::path::Path;

use burn::tensor::Device;
use litemoe_core::{Criterion, ExpertScores, Input, LayerId, MoeModel, SimilarityKind};
use litemoe_model::{Checkpoint, Model};
use litemoe_score::{About, Measurement, ScoreOptions, Scored, score};
use serde_json::Value;

const ROWS: &str = include_str!("../golden/rows.jsonl");

/// Maximum relative error.
const TOLERANCE: f64 = 1e-4;

pub(crate) fn rows() -> Vec<Vec<u32>> {
    let ids = |line| serde_json::from_str::<Value>(line).unwrap()["input_ids"].take();
    ROWS.lines().map(|line| serde_json::from_value(ids(line)).unwrap()).collect()
}

pub(crate) fn scored(dir: &Path, rows: &[Vec<u32>], options: &ScoreOptions) -> Scored {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let model = Model::stream(&checkpoint, &Device::flex()).unwrap();
    let about = About {
        fingerprint: checkpoint.fingerprint().clone(),
        model: checkpoint.name(),
        family: checkpoint.family().to_owned(),
        program: "0".to_owned(),
    };
    score(&model, rows, options, &about, drop).unwrap()
}

/// The model in memory, each batch through all blocks before the next batch.
fn measured_batch_by_batch(dir: &Path, rows: &[Vec<u32>], batch: usize) -> Measurement {
    let model = Model::load(&Checkpoint::open(dir).unwrap(), &Device::flex()).unwrap();
    let mut measurement = Measurement::new(model.moe_layers(), SimilarityKind::ALL);
    for batch in rows.chunks(batch) {
        measurement.add_batches(&model, &[Input::decoder(batch.to_vec())], drop).unwrap();
    }
    measurement
}

fn assert_values(what: &str, found: &[f64], expected: &Value) {
    let expected = expected.as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
    let expected: Vec<f64> = expected.collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (expert, (x, y)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (x - y).abs() <= TOLERANCE * y.abs(),
            "{what} of expert {expert}: {x}, expected {y}"
        );
    }
}

fn assert_layer(scores: &ExpertScores, layer: LayerId, expected: &Value) {
    let found = &scores.layers[&layer];
    assert_eq!(found.tokens, expected["tokens"].as_u64().unwrap());
    assert_eq!(found.top_k as u64, expected["top_k"].as_u64().unwrap());
    for (name, values) in expected["sums"].as_object().unwrap() {
        let sums = match name.as_str() {
            "count" => found.count.iter().map(|&count| count as f64).collect(),
            "prob" => found.prob.values().to_vec(),
            "gate" => found.gate.values().to_vec(),
            "norm" => found.norm.values().to_vec(),
            "gate_norm" => found.gate_norm.values().to_vec(),
            other => panic!("a sum `{other}`"),
        };
        assert_values(&format!("layer {layer}: sum of {name}"), &sums, values);
    }
    for (name, values) in expected["scores"].as_object().unwrap() {
        let criterion: Criterion = name.parse().unwrap();
        let found = scores.of(layer, criterion).unwrap();
        assert_values(&format!("layer {layer}: {name}"), &found, values);
    }
}

fn assert_equals_reference(dir: &Path, reference: &str) {
    let scores = scored(dir, &rows(), &ScoreOptions::default()).scores;
    let reference: Value = serde_json::from_str(reference).unwrap();
    assert_eq!(scores.input_sha256, reference["input_sha256"].as_str().unwrap());
    assert_eq!(scores.tokens(), reference["tokens"].as_u64().unwrap());
    let layers = reference["layers"].as_object().unwrap();
    assert_eq!(scores.layers.len(), layers.len());
    for &id in scores.layers.keys() {
        assert_layer(&scores, id, &layers[&id.to_string()]);
    }
}

#[test]
fn the_foundation_scores_as_the_reference_says() {
    let reference = include_str!("../golden/foundation.json");
    assert_equals_reference(&litemoe_fixtures::foundation_dir(), reference);
}

#[test]
fn a_tiny_model_scores_as_the_reference_says() {
    assert_equals_reference(&litemoe_fixtures::tiny_dir(), include_str!("../golden/tiny.json"));
}

#[test]
fn reading_block_by_block_changes_no_bit() {
    let tiny = |name| litemoe_fixtures::tiny_dir().with_file_name(name);
    let names = ["qwen3_moe", "windowed", "fused", "granitemoe", "mixtral", "olmoe", "qwen2_moe"];
    // ids within every model's vocabulary
    let known = |row: Vec<u32>| row.into_iter().map(|id| id % 256).collect();
    let rows: Vec<Vec<u32>> = rows().into_iter().map(known).collect();
    let similarities = SimilarityKind::ALL.to_vec();
    let options = ScoreOptions { batch: 5, similarities, ..Default::default() };
    for dir in names.map(tiny).into_iter().chain([litemoe_fixtures::foundation_dir()]) {
        let streamed = scored(&dir, &rows, &options);
        let measured = measured_batch_by_batch(&dir, &rows, options.batch);
        // sums of every criterion and of both similarities
        assert_eq!(streamed.scores.layers, measured.into_layers(), "{}", dir.display());
    }
}

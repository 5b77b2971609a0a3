use std::path::Path;

use burn::tensor::Device;
use litemoe_core::LayerScores;
use litemoe_model::{Checkpoint, Model};
use litemoe_score::{About, ScoreOptions, Scored, score};
use serde_json::Value;

const ROWS: &str = include_str!("../golden/rows.jsonl");

/// The largest error of any number, relative to that number.
const TOLERANCE: f64 = 1e-4;

fn rows() -> Vec<Vec<u32>> {
    let ids = |line| serde_json::from_str::<Value>(line).unwrap()["input_ids"].take();
    ROWS.lines().map(|line| serde_json::from_value(ids(line)).unwrap()).collect()
}

fn scored(dir: &Path) -> Scored {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let model = Model::load(&checkpoint, &Device::flex()).unwrap();
    let about = About {
        fingerprint: checkpoint.fingerprint().clone(),
        model: checkpoint.name(),
        family: checkpoint.family().to_owned(),
        program: "0".to_owned(),
    };
    score(&model, &rows(), &ScoreOptions::default(), &about, drop).unwrap()
}

fn assert_values(what: &str, found: &Value, expected: &Value) {
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (expert, (x, y)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (x - y).abs() <= TOLERANCE * y.abs(),
            "{what} of expert {expert}: {x}, expected {y}"
        );
    }
}

fn assert_layer(layer: &str, found: &LayerScores, expected: &Value) {
    assert_eq!(found.tokens, expected["tokens"].as_u64().unwrap());
    assert_eq!(found.top_k as u64, expected["top_k"].as_u64().unwrap());
    let found = serde_json::to_value(found).unwrap();
    for part in ["sums", "scores"] {
        for (name, values) in expected[part].as_object().unwrap() {
            assert_values(&format!("layer {layer}: {name}"), &found[part][name], values);
        }
    }
}

fn assert_equals_reference(dir: &Path, reference: &str) {
    let scores = scored(dir).scores;
    let reference: Value = serde_json::from_str(reference).unwrap();
    assert_eq!(scores.input_sha256, reference["input_sha256"].as_str().unwrap());
    assert_eq!(scores.tokens, reference["tokens"].as_u64().unwrap());
    let layers = reference["layers"].as_object().unwrap();
    assert_eq!(scores.layers.len(), layers.len());
    for (id, found) in &scores.layers {
        assert_layer(&id.to_string(), found, &layers[&id.to_string()]);
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

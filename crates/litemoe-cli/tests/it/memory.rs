//! Models larger than memory can be scored, planned and extracted.

use std::collections::HashMap;
use std::fs;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::bench::{Bench, edit_json};

const BLOCKS: usize = 24;
/// Number of copies of each neuron of an expert.
const REPEATED: usize = 32;

/// Gives the tiny model more blocks and wider experts, in bf16. Returns its bytes in f32.
fn grow(bench: &Bench) -> u64 {
    edit_json(&bench.path("model/config.json"), |config| {
        config["num_hidden_layers"] = json!(BLOCKS);
        config["moe_intermediate_size"] = json!(32 * REPEATED);
    });
    let path = bench.path("model/model.safetensors");
    let bytes = fs::read(&path).expect("the checkpoint is there");
    let mut grown: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in SafeTensors::deserialize(&bytes).expect("safetensors").iter() {
        if name.starts_with("model.layers.1.") {
            continue;
        }
        let (shape, values) = repeated(name, view.shape(), view.data());
        let blocks = if name.starts_with("model.layers.0.") { BLOCKS } else { 1 };
        for block in 0..blocks {
            let name = name.replace("layers.0.", &format!("layers.{block}."));
            grown.push((name, shape.clone(), values.clone()));
        }
    }
    let views = grown.iter().map(|(name, shape, values)| {
        (name, TensorView::new(Dtype::BF16, shape.clone(), values).expect("a view"))
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    fs::write(&path, safetensors::serialize(views, Some(format)).expect("serialised"))
        .expect("written");
    2 * grown.iter().map(|(_, _, values)| values.len() as u64).sum::<u64>()
}

/// A tensor truncated from f32 to bf16; an expert's with every neuron repeated.
fn repeated(name: &str, shape: &[usize], bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let halves: Vec<[u8; 2]> = bytes.as_chunks::<4>().0.iter().map(|b| [b[2], b[3]]).collect();
    if !name.contains(".experts.") {
        return (shape.to_vec(), halves.concat());
    }
    let [rows, columns] = [shape[0], shape[1]];
    if name.contains("down_proj") {
        let values = halves.iter().flat_map(|&half| [half; REPEATED]).flatten().collect();
        (vec![rows, columns * REPEATED], values)
    } else {
        (vec![rows * REPEATED, columns], halves.concat().repeat(REPEATED))
    }
}

#[test]
fn score_plan_and_extract_need_a_fraction_of_the_model() {
    let bench = Bench::new();
    let bytes_in_f32 = grow(&bench);
    assert!(bytes_in_f32 > 150_000_000, "{bytes_in_f32}");
    for args in [
        &["score", "model", "rows.jsonl"][..],
        &["plan", "model", "scores.json", "--budget", "0.5"],
        &["extract", "model", "plan.json"],
    ] {
        let peak = bench.json(args)["peak_bytes"]["anonymous"].as_u64().expect("bytes");
        assert!(peak > 0 && peak < bytes_in_f32 / 2, "{args:?}: {peak} of {bytes_in_f32}");
    }
}

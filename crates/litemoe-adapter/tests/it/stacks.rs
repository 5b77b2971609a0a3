//! PEFT's stacks of experts, built here index by index from their definition, against per-expert LoRAs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use litemoe_adapter::{AdapterError, save};
use litemoe_core::{Adapters, Lora, MoeModel, Site};
use litemoe_model::Model;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::experts::{random_experts, read, tensors, write_tensors};
use crate::fixture::{floats, model, same_bits};
use crate::peft::set;

/// An adapter whose gate and up share A, as in stacks.
fn shared(model: &Model, seed: u64) -> Adapters {
    let all = random_experts(model, seed);
    let share = |(site, lora): (&Site, &Lora)| {
        let gate = site.as_str().replace("up_proj", "gate_proj");
        let a = all.at(&gate).unwrap().lora().a.clone();
        (site.clone(), Lora { a, ..lora.clone() })
    };
    all.loras().map(share).collect()
}

/// A matrix indexed by row and column.
struct Grid(usize, Vec<f32>);

impl Grid {
    fn at(&self, row: usize, column: usize) -> f32 {
        self.1[row * self.0 + column]
    }
}

fn grid(tensor: &Tensor<2>) -> Grid {
    Grid(tensor.dims()[1], floats(tensor.clone()))
}

/// Writes the LoRAs of `parts` of the experts as PEFT saves stacks of them, index by index: A `[E·r, d_in]`, expert by
/// expert, and B `[d_out, r·E]`, expert fastest; for the transposed weights if `is_swapped`.
fn write_stacked(dir: &Path, model: &Model, adapters: &Adapters, parts: &[&str], is_swapped: bool) {
    let (rank, n_experts) = (8, 4);
    let mut tensors = BTreeMap::new();
    for block in [0, 2] {
        for leaf in parts {
            let halves: &[&str] = match *leaf {
                "gate_up_proj" => &["gate_proj", "up_proj"],
                down => &[down],
            };
            let path = |expert: usize, half: &str| {
                format!("model.layers.{block}.mlp.experts.{expert}.{half}")
            };
            let of = |expert, half| adapters.at(&path(expert, half)).unwrap().lora();
            let d_in = of(0, halves[0]).a.dims()[0];
            let widths = halves.iter().map(|half| of(0, half).b.dims()[1]);
            let (width, d_out) = (of(0, halves[0]).b.dims()[1], widths.sum::<usize>());
            // A by (expert, k, i), B by (o, k, expert).
            let a = |e: usize, k: usize, i: usize| grid(&of(e, halves[0]).a).at(i, k);
            let b =
                |o: usize, k: usize, e: usize| grid(&of(e, halves[o / width]).b).at(k, o % width);
            let (mut wide, mut tall) = (Vec::new(), Vec::new());
            let [first, last] = if is_swapped { [d_out, d_in] } else { [d_in, d_out] };
            for row in 0..n_experts * rank {
                let (e, k) = (row / rank, row % rank);
                wide.extend(
                    (0..first).map(|at| if is_swapped { b(at, k, e) } else { a(e, k, at) }),
                );
            }
            for at in 0..last {
                for column in 0..rank * n_experts {
                    let (k, e) = (column / n_experts, column % n_experts);
                    tall.push(if is_swapped { a(e, k, at) } else { b(at, k, e) });
                }
            }
            let inner = if parts.len() == 2 && halves.len() == 2 { ".base_layer" } else { "" };
            let name = |ab| {
                format!("base_model.model.model.layers.{block}.mlp.experts{inner}.lora_{ab}.weight")
            };
            tensors.insert(name("A"), (vec![n_experts * rank, first], wide));
            tensors.insert(name("B"), (vec![last, rank * n_experts], tall));
        }
    }
    save(dir, adapters, model.linear_sites(), &Default::default(), None).unwrap();
    write_tensors(dir, &tensors);
    set(dir, "target_modules", Value::Null);
    set(dir, "target_parameters", parts.iter().map(|leaf| format!("mlp.experts.{leaf}")).collect());
}

fn stacked(
    model: &Model,
    adapters: &Adapters,
    parts: &[&str],
    is_swapped: bool,
) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let target = dir.path().join("adapter");
    write_stacked(&target, model, adapters, parts, is_swapped);
    (dir, target)
}

const BOTH: [&str; 2] = ["gate_up_proj", "down_proj"];

#[test]
fn stacks_are_read_as_the_experts_one_by_one() {
    let model = model();
    let adapters = shared(&model, 6);
    for (is_swapped, versions) in [
        (false, ["0.21.2", "0.19.1", "0.19.0", "0.19.1.dev0@abc", "1.0.0", ""]),
        (true, ["0.18.1", "0.17.0", "0.19.0", "0.18.2.dev0", "0.16.0", ""]),
    ] {
        let (_keep, dir) = stacked(&model, &adapters, &BOTH, is_swapped);
        for version in versions {
            // Without a version the shapes decide: down maps 16 to 32; gate and up, 32 to 2 · 16, are ambiguous.
            set(
                &dir,
                "peft_version",
                if version.is_empty() { Value::Null } else { json!(version) },
            );
            let read = read(&model, &dir).unwrap();
            assert!(same_bits(&read, &adapters), "PEFT {version}");
        }
    }
}

#[test]
fn one_stack_alone_has_the_outer_name() {
    let model = model();
    let adapters = shared(&model, 7);
    for (leaf, is_down) in [("gate_up_proj", false), ("down_proj", true)] {
        let is_meant = |(site, _): &(&Site, &Lora)| site.leaf().starts_with("down") == is_down;
        let half: Adapters = adapters
            .loras()
            .filter(is_meant)
            .map(|(site, lora)| (site.clone(), lora.clone()))
            .collect();
        let (_keep, dir) = stacked(&model, &half, &[leaf], false);
        assert!(same_bits(&read(&model, &dir).unwrap(), &half), "{leaf}");
    }
}

#[test]
fn patterns_match_the_stacks_parameter() {
    let model = model();
    let (_keep, dir) = stacked(&model, &shared(&model, 8), &BOTH, false);
    set(&dir, "alpha_pattern", json!({"gate_up_proj": 4, "layers.2.mlp.experts.down_proj": 24}));
    set(&dir, "use_rslora", json!(true));
    let read = read(&model, &dir).unwrap();
    let scale = |block: usize, leaf: &str| {
        read.at(&format!("model.layers.{block}.mlp.experts.1.{leaf}")).unwrap().lora().scale
    };
    let root = 8f64.sqrt();
    assert_eq!(scale(0, "up_proj"), (4.0 / root) as f32);
    assert_eq!(scale(2, "gate_proj"), (4.0 / root) as f32);
    assert_eq!(scale(0, "down_proj"), (16.0 / root) as f32);
    assert_eq!(scale(2, "down_proj"), (24.0 / root) as f32);
    set(&dir, "rank_pattern", json!({"down_proj": 4}));
    let error = self::read(&model, &dir).unwrap_err();
    assert!(matches!(error, AdapterError::Shape { expected: [16, 16], .. }), "{error}");
}

#[test]
fn stacks_that_could_lie_either_way_are_refused() {
    let model = model();
    let adapters = shared(&model, 9);
    let (_keep, dir) = stacked(&model, &adapters, &["gate_up_proj"], false);
    for version in [Value::Null, json!("0.19.0"), json!("newest")] {
        set(&dir, "peft_version", version);
        let error = read(&model, &dir).unwrap_err();
        let is_named =
            matches!(&error, AdapterError::Unsupported { key, .. } if key == "peft_version");
        assert!(is_named, "{error}");
    }
    let (_keep, dir) = stacked(&model, &adapters, &BOTH, true);
    set(&dir, "peft_version", json!("0.21.2"));
    let error = read(&model, &dir).unwrap_err();
    assert!(matches!(error, AdapterError::Shape { .. }), "the version is believed: {error}");
}

#[test]
fn stacks_are_claimed_and_whole_and_nothing_is_left() {
    let model = model();
    let (_keep, dir) = stacked(&model, &shared(&model, 10), &BOTH, false);
    set(&dir, "target_parameters", json!(["mlp.experts.down_proj"]));
    assert!(matches!(read(&model, &dir).unwrap_err(), AdapterError::UnknownTensors { .. }));
    set(&dir, "target_parameters", json!(["gate_up_proj", "down_proj", "mlp.router.weight"]));
    let error = read(&model, &dir).unwrap_err();
    let is_named = matches!(&error, AdapterError::Unsupported { key, found, .. }
        if key == "target_parameters" && found == "mlp.router.weight");
    assert!(is_named, "{error}");
    set(&dir, "target_parameters", json!(["gate_up_proj", "down_proj"]));
    read(&model, &dir).unwrap();
    let mut left = tensors(&dir);
    left.remove("base_model.model.model.layers.2.mlp.experts.base_layer.lora_B.weight").unwrap();
    write_tensors(&dir, &left);
    let error = read(&model, &dir).unwrap_err();
    assert!(
        matches!(&error, AdapterError::MissingTensor { tensor, .. } if tensor.contains("base_layer")),
        "{error}"
    );
}

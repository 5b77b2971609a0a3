//! Routing and experts equal a naive implementation.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    Activation, ExpertId, ExpertSource, Input, LanguageModel, LayerId, Observer, Pass, Routing,
};
use litemoe_model::{Checkpoint, Model};
use proptest::prelude::*;

use crate::edit::{Copy, Raw};
use crate::setup::{error, load, logits, row, values};

/// Everything an observer receives, as numbers.
#[derive(Default)]
struct Record {
    probs: BTreeMap<LayerId, Vec<f32>>,
    chosen: BTreeMap<LayerId, Vec<i64>>,
    gates: BTreeMap<LayerId, Vec<f32>>,
    activations: BTreeMap<ExpertId, (Vec<usize>, Vec<f32>, Vec<f32>)>,
    blocks: BTreeMap<LayerId, (Vec<f32>, Vec<f32>)>,
}

impl Observer for Record {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        self.probs.insert(layer, values(&routing.probs));
        self.chosen.insert(layer, routing.experts.to_data().iter::<i64>().collect());
        self.gates.insert(layer, values(&routing.gates));
    }

    fn activated(&mut self, expert: ExpertId, seen: &Activation) {
        let numbers = (seen.tokens.clone(), values(&seen.gates), values(&seen.outputs));
        assert!(self.activations.insert(expert, numbers).is_none());
    }

    fn block_output(&mut self, layer: LayerId, before: &Tensor<2>, after: &Tensor<2>) {
        self.blocks.insert(layer, (values(before), values(after)));
    }
}

fn observe(model: &Model, row: Vec<u32>) -> Record {
    let mut record = Record::default();
    model.logits(&Input::decoder(vec![row]), &mut Pass::observed(&mut record));
    record
}

/// SwiGLU expert, `down(silu(gate(x)) * up(x))`, for one token, in f64.
fn expert_output(weights: &litemoe_core::ExpertWeights, x: &[f32]) -> Vec<f64> {
    let product = |matrix: &Tensor<2>, x: &[f64]| -> Vec<f64> {
        let rows = values(matrix);
        let row = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
        rows.chunks(x.len()).map(row).collect()
    };
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let gate = product(weights.gate.as_ref().unwrap(), &x);
    let up = product(&weights.up, &x);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let inner: Vec<f64> = gate.into_iter().zip(up).map(|(g, u)| silu(g) * u).collect();
    product(&weights.down, &inner)
}

fn normalised(row: &[f32], eps: f64) -> Vec<f32> {
    let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / row.len() as f64;
    row.iter().map(|&x| (f64::from(x) / (mean + eps).sqrt()) as f32).collect()
}

/// A model whose blocks are their experts alone: attention outputs 0, and the norms before experts have weights of 1.
fn experts_alone(top_k: usize) -> Copy {
    let copy = Copy::of("qwen3_moe").config(|config| {
        config.insert("num_experts_per_tok".into(), top_k.into());
    });
    copy.tensors(|tensors| {
        for (name, raw) in tensors {
            if name.contains("o_proj") {
                raw.bytes.fill(0);
            }
            if name.contains("post_attention") {
                raw.bytes = 1.0f32.to_le_bytes().repeat(raw.bytes.len() / 4);
            }
        }
    })
}

#[test]
fn sorted_dispatch_is_the_naive_loop_and_top_k_of_all_is_the_full_mixture() {
    for top_k in [1, 2, 8] {
        let copy = experts_alone(top_k);
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let device = Device::flex();
        let model = Model::load(&checkpoint, &device).unwrap();
        let record = observe(&model, row(10));
        for layer in checkpoint.moe_layers() {
            let (before, after) = &record.blocks[&layer.id];
            let (d, k) = (layer.d_model, layer.top_k);
            let experts: Vec<_> = (0..layer.n_experts)
                .map(|e| checkpoint.experts(&device).expert(layer.id.expert(e)).unwrap())
                .collect();
            let mut expected = Vec::new();
            for token in 0..10 {
                let x = normalised(&before[token * d..][..d], checkpoint.config().norm_eps);
                let mut sum: Vec<f64> =
                    before[token * d..][..d].iter().map(|&x| f64::from(x)).collect();
                for place in token * k..(token + 1) * k {
                    let expert = record.chosen[&layer.id][place] as usize;
                    let gate = f64::from(record.gates[&layer.id][place]);
                    if k == layer.n_experts {
                        // Renormalising a sum of 1 changes nothing: the gate of every expert is its probability.
                        let p = record.probs[&layer.id][token * layer.n_experts + expert];
                        assert!((gate - f64::from(p)).abs() < 1e-6);
                    }
                    let output = expert_output(&experts[expert], &x);
                    sum.iter_mut().zip(output).for_each(|(sum, y)| *sum += gate * y);
                }
                expected.extend(sum.iter().map(|&x| x as f32));
            }
            assert!(error(after, &expected) < 1e-5, "top {top_k}");
        }
    }
}

#[test]
fn observers_see_every_choice_once() {
    let model = load(experts_alone(2).path());
    let record = observe(&model, row(10));
    assert_eq!(record.blocks.len(), 2);
    for (layer, chosen) in &record.chosen {
        let probs = &record.probs[layer];
        for token in 0..10 {
            let total: f32 = probs[token * 8..][..8].iter().sum();
            assert!((total - 1.0).abs() < 1e-5);
            let gates: f32 = record.gates[layer][token * 2..][..2].iter().sum();
            assert!((gates - 1.0).abs() < 1e-5, "this model renormalises");
            for place in token * 2..token * 2 + 2 {
                let (tokens, gates, outputs) =
                    &record.activations[&layer.expert(chosen[place] as usize)];
                let at = tokens.iter().position(|&seen| seen == token).unwrap();
                assert_eq!(gates[at], record.gates[layer][place]);
                assert_eq!(outputs.len(), tokens.len() * 64);
            }
        }
        let seen: usize = record
            .activations
            .iter()
            .filter(|(e, _)| e.layer == *layer)
            .map(|(_, a)| a.0.len())
            .sum();
        assert_eq!(seen, chosen.len());
    }
}

/// Observer that does not want activations.
struct Quiet(usize);

impl Observer for Quiet {
    fn routed(&mut self, _: LayerId, _: &Routing) {
        self.0 += 1;
    }

    fn activated(&mut self, expert: ExpertId, _: &Activation) {
        panic!("{expert} was shown to an observer that does not want it");
    }

    fn wants_activations(&self) -> bool {
        false
    }
}

#[test]
fn activations_are_made_only_for_those_who_want_them() {
    let model = load(litemoe_fixtures::tiny_dir());
    let mut quiet = Quiet(0);
    model.logits(&Input::decoder(vec![row(5)]), &mut Pass::observed(&mut quiet));
    assert_eq!(quiet.0, 2);
}

/// Replaces expert `e` by expert `to[e]`, router row included.
fn permuted(to: &[usize]) -> Copy {
    Copy::of("qwen3_moe").tensors(|tensors| {
        let old: BTreeMap<String, Raw> = tensors.clone();
        for (name, raw) in tensors {
            if let Some((experts, rest)) = name.split_once("experts.") {
                let (e, part) = rest.split_once('.').unwrap();
                let e: usize = e.parse().unwrap();
                *raw = old[&format!("{experts}experts.{}.{part}", to[e])].clone();
            } else if name.ends_with("mlp.gate.weight") {
                raw.bytes = to.iter().flat_map(|&e| old[name].row(e).to_vec()).collect();
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn permuting_experts_permutes_the_routing(to in Just((0..8).collect::<Vec<_>>()).prop_shuffle()) {
        let copy = permuted(&to);
        let (plain, other) = (load(litemoe_fixtures::tiny_dir()), load(copy.path()));
        prop_assert!(error(&logits(&other, &[row(9)]), &logits(&plain, &[row(9)])) < 1e-5);
        let (plain, other) = (observe(&plain, row(9)), observe(&other, row(9)));
        for (layer, probs) in &plain.probs {
            for token in 0..9 {
                let old: Vec<f32> = to.iter().map(|&e| probs[token * 8 + e]).collect();
                prop_assert!(error(&other.probs[layer][token * 8..][..8], &old) < 1e-5);
                for place in token * 2..token * 2 + 2 {
                    let chosen = other.chosen[layer][place] as usize;
                    prop_assert_eq!(to[chosen] as i64, plain.chosen[layer][place]);
                }
            }
        }
    }
}

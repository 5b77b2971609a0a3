//! Proxies: kept experts compute what they did in the foundation.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    AbsorbedExpert, Activation, ExpertBiases, ExpertId, ExpertSource, ExpertWeights, Group, Input,
    LanguageModel, LayerId, LayerPlan, MoeLayer, MoeModel, Observer, Pass, Plan, RouterRule,
    Routing, Stack,
};
use litemoe_model::{Checkpoint, ModelError, SIDE_FILES, proxy_bytes, write_proxy};
use serde_json::Value;
use tempfile::TempDir;

use crate::edit::{self, Copy};
use crate::setup::{TINY, copies, error, input, keep, load, logits, plan, row, some, tiny, values};

/// Proxy, deleted with the test.
pub(crate) struct Proxy {
    _folder: TempDir,
    pub(crate) dir: PathBuf,
}

pub(crate) fn write(checkpoint: &Checkpoint, plan: &Plan) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("proxy");
    write_proxy(checkpoint, plan, &dir, &mut copies).unwrap();
    let written = fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert_eq!(proxy_bytes(checkpoint, plan).unwrap(), written);
    Proxy { _folder: folder, dir }
}

/// Pairs of experts: each even one absorbs its successor.
pub(crate) fn pairs(n_experts: usize) -> LayerPlan {
    let pair = |centroid| Group {
        centroid,
        share: 0.5,
        absorbed: vec![AbsorbedExpert { expert: centroid + 1, share: 0.5, alignment: None }],
    };
    let groups = (0..n_experts).step_by(2).map(pair).collect();
    LayerPlan { n_experts, groups, removed: Vec::new() }
}

/// All values of an expert in one list.
fn all_values(expert: &ExpertWeights) -> Vec<f32> {
    let matrices = expert.gate.iter().chain([&expert.up, &expert.down]).flat_map(values);
    let biases = expert.biases.iter();
    let biases = biases.flat_map(|b| b.gate.iter().chain([&b.up, &b.down])).flat_map(values);
    matrices.chain(biases).collect()
}

fn config(dir: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
}

#[test]
fn the_identity_plan_changes_nothing_bit_for_bit() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let expected = logits(&load(tiny(name)), &[row(17), row(3)]);
        for &rule in RouterRule::ALL {
            let identity = plan(&checkpoint, rule, |layer| {
                keep(layer.n_experts, &(0..layer.n_experts).collect::<Vec<_>>())
            });
            let proxy = write(&checkpoint, &identity);
            assert_eq!(logits(&load(&proxy.dir), &[row(17), row(3)]), expected, "{name} {rule}");
            let same =
                Checkpoint::open(&proxy.dir).unwrap().fingerprint() == checkpoint.fingerprint();
            // Fused tensors are written separately, MXFP4 in bf16; the other rules add a plan.
            let is_kept = !name.ends_with("fused") && !name.ends_with("mxfp4");
            assert_eq!(same, rule == RouterRule::DropRows && is_kept, "{name} {rule}");
        }
    }
}

#[test]
fn expert_bytes_are_the_kept_share_and_nothing_else_changes() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        for &rule in RouterRule::ALL {
            let kept = some(&checkpoint.moe_layers()[0]);
            let plan = plan(&checkpoint, rule, |layer| keep(layer.n_experts, &kept));
            let proxy = write(&checkpoint, &plan);
            let found = Checkpoint::open(&proxy.dir).unwrap();
            let n_experts = checkpoint.moe_layers()[0].n_experts as u64;
            if name != "gpt_oss_mxfp4" {
                let n_kept = kept.len() as u64;
                assert_eq!(found.expert_bytes() * n_experts, checkpoint.expert_bytes() * n_kept);
            }
            assert_eq!(found.eos_ids(), checkpoint.eos_ids());
            assert!(found.moe_layers().iter().all(|layer| layer.n_experts == kept.len()));
            assert_eq!(load(&proxy.dir).moe_layers(), found.moe_layers());
            let weights = edit::read(&proxy.dir.join("model.safetensors"));
            let experts = found.experts(&Device::flex());
            let old = checkpoint.experts(&Device::flex());
            let layer = found.moe_layers()[0].id;
            let (new, old) = (experts.expert(layer.expert(1)), old.expert(layer.expert(kept[1])));
            assert_eq!(all_values(&new.unwrap()), all_values(&old.unwrap()));
            let released = match checkpoint.family() {
                "mixtral" | "phimoe" => "block_sparse_moe.experts.2.w3.weight",
                "granitemoe" => "block_sparse_moe.input_linear.weight",
                "gpt_oss" => "mlp.experts.gate_up_proj_bias",
                "llama4_text" => "feed_forward.experts.gate_up_proj",
                "switch_transformers" => "layer.1.mlp.experts.expert_2.wo.weight",
                _ => "mlp.experts.2.up_proj.weight",
            };
            let block = match layer.stack {
                Stack::Encoder => "encoder.block",
                Stack::Decoder => "model.layers",
            };
            assert!(weights.contains_key(&format!("{block}.{}.{released}", layer.block)), "{name}");
        }
    }
}

#[test]
fn a_drop_rows_proxy_is_a_plain_directory_and_another_is_marked() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let of = |rule| write(&checkpoint, &plan(&checkpoint, rule, |_| keep(8, &[1, 3, 6])));
    let dropped = of(RouterRule::DropRows);
    let found = config(&dropped.dir);
    assert_eq!(
        (&found["num_local_experts"], &found["model_type"]),
        (&3.into(), &"qwen3_moe".into())
    );
    assert!(!dropped.dir.join("plan.json").exists());
    for name in
        ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]
    {
        let copied = fs::read(dropped.dir.join(name)).unwrap();
        assert_eq!(copied, fs::read(tiny("qwen3_moe").join(name)).unwrap());
    }
    let marked = of(RouterRule::Redirect);
    let found = config(&marked.dir);
    assert_eq!(found["model_type"], "litemoe_qwen3_moe");
    assert!(found.get("architectures").is_none());
    assert!(marked.dir.join("plan.json").exists());
}

#[test]
fn every_spelling_of_the_expert_count_is_lowered() {
    let copy = Copy::of("qwen3_moe").config(|config| {
        config.insert("num_experts".into(), 8.into());
    });
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
    let proxy = write(&checkpoint, &plan(&checkpoint, RouterRule::DropRows, |_| keep(8, &[0, 7])));
    let found = config(&proxy.dir);
    assert_eq!((&found["num_experts"], &found["num_local_experts"]), (&2.into(), &2.into()));
}

#[test]
fn without_merges_redirect_selected_is_drop_rows() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let of = |rule| {
            let kept = plan(&checkpoint, rule, |layer| keep(layer.n_experts, &some(layer)));
            logits(&load(&write(&checkpoint, &kept).dir), &[row(21)])
        };
        let (selected, dropped) = (of(RouterRule::RedirectSelected), of(RouterRule::DropRows));
        assert!(error(&selected, &dropped) < 1e-5, "{name}");
        assert!(error(&dropped, &logits(&load(tiny(name)), &[row(21)])) > 1e-2, "{name}");
    }
}

/// Checkpoint with every odd expert a copy of the one before it; the router rows stay different.
fn doubled(top_k: usize) -> Copy {
    let copy = Copy::of("qwen3_moe").config(|config| {
        config.insert("num_experts_per_tok".into(), top_k.into());
    });
    copy.tensors(|tensors| {
        let old = tensors.clone();
        for (name, raw) in tensors {
            let Some((path, rest)) = name.split_once("experts.") else { continue };
            let (expert, part) = rest.split_once('.').unwrap();
            let centroid = expert.parse::<usize>().unwrap() / 2 * 2;
            *raw = old[&format!("{path}experts.{centroid}.{part}")].clone();
        }
    })
}

#[test]
fn redirect_selected_is_exact_for_duplicated_experts() {
    for top_k in 1..=4 {
        let copy = doubled(top_k);
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let merged = plan(&checkpoint, RouterRule::RedirectSelected, |_| pairs(8));
        let proxy = write(&checkpoint, &merged);
        let rows = [row(23), row(5)];
        let found = logits(&load(&proxy.dir), &rows);
        let error = error(&found, &logits(&load(copy.path()), &rows));
        assert!(error < 1e-5, "top {top_k}: {error}");
    }
}

#[test]
fn redirect_is_exact_for_duplicated_experts_when_all_are_chosen() {
    let copy = doubled(8);
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
    // The foundation's eight choices are the proxy's four.
    let proxy_copy = doubled(4);
    let proxied = Checkpoint::open(proxy_copy.path()).unwrap();
    let proxy = write(&proxied, &plan(&proxied, RouterRule::Redirect, |_| pairs(8)));
    let expected = logits(&load(copy.path()), &[row(23)]);
    assert!(error(&logits(&load(&proxy.dir), &[row(23)]), &expected) < 1e-5);
    assert_eq!(checkpoint.moe_layers()[0].top_k, 8);
}

#[test]
fn experts_that_no_token_goes_to_are_not_missed_however_large_the_logits() {
    for name in ["phimoe", "llama4_text"] {
        // Sigmoids and exponentials of such logits are all 0 or 1.
        let copy = Copy::of(name).tensors(|tensors| {
            for (name, raw) in tensors {
                if name.ends_with("router.weight") || name.ends_with("sparse_moe.gate.weight") {
                    let halves = raw.bytes.as_chunks::<2>().0.iter();
                    let larger = halves.map(|&half| half::bf16::from_le_bytes(half).to_f32() * 3e3);
                    let larger = larger.map(half::bf16::from_f32);
                    raw.bytes = larger.flat_map(half::bf16::to_le_bytes).collect();
                }
            }
        });
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let model = load(copy.path());
        let (rows, mut used) = ([row(2)], Used::default());
        let expected = model.logits(&input(&model, &rows), &mut Pass::observed(&mut used));
        let all: Vec<usize> = (0..6).collect();
        let is_used = |layer: LayerId, expert: usize| used.0.contains(&layer.expert(expert));
        for rule in [RouterRule::Redirect, RouterRule::RedirectSelected] {
            let plan = plan(&checkpoint, rule, |layer| {
                let idle = all.iter().position(|&expert| !is_used(layer.id, expert)).unwrap();
                let kept: Vec<usize> = all.iter().copied().filter(|&e| e != idle).collect();
                keep(6, &kept)
            });
            let found = logits(&load(&write(&checkpoint, &plan).dir), &rows);
            assert!(error(&found, &values(&expected)) < 1e-5, "{name} {rule}");
        }
    }
}

/// Experts that received a token.
#[derive(Default)]
struct Used(BTreeSet<ExpertId>);

impl Observer for Used {
    fn activated(&mut self, expert: ExpertId, _: &Activation) {
        self.0.insert(expert);
    }
}

/// Routing of the first layer.
#[derive(Default)]
struct First {
    probs: Vec<f32>,
    gates: Vec<f32>,
}

impl Observer for First {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        if layer.block == 0 {
            self.probs = values(&routing.probs);
            self.gates = values(&routing.gates);
        }
    }
}

fn first_routing(dir: &std::path::Path) -> First {
    let mut first = First::default();
    let input = Input::decoder(vec![row(11)]);
    load(dir).logits(&input, &mut Pass::observed(&mut first));
    first
}

#[test]
fn redirected_probability_is_the_foundations_summed_per_host() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let layer = LayerPlan { removed: vec![6, 7], groups: pairs(6).groups, n_experts: 8 };
    let of =
        |rule| first_routing(&write(&checkpoint, &plan(&checkpoint, rule, |_| layer.clone())).dir);
    let (plain, redirected) = (first_routing(&tiny("qwen3_moe")), of(RouterRule::Redirect));
    let selected = of(RouterRule::RedirectSelected);
    for token in 0..11 {
        let p = &plain.probs[token * 8..][..8];
        let centroids = [p[0] + p[1], p[2] + p[3], p[4] + p[5]];
        assert!(error(&redirected.probs[token * 3..][..3], &centroids) < 1e-6);
        // Masking rows keeps the ratios of the others.
        let left: f32 = centroids.iter().sum();
        let shares = centroids.map(|p| p / left);
        assert!(error(&selected.probs[token * 3..][..3], &shares) < 1e-5);
        for gates in [&redirected.gates, &selected.gates] {
            assert!((gates[token * 2] + gates[token * 2 + 1] - 1.0).abs() < 1e-5);
        }
    }
    // Two choices with one centroid leave a place empty.
    assert!(selected.gates.contains(&0.0));
}

#[test]
fn merged_experts_are_written_in_the_stored_dtype() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let merged = plan(&checkpoint, RouterRule::DropRows, |layer| {
            let mut kept = keep(layer.n_experts, &some(layer));
            let last = kept.removed.pop().unwrap();
            let absorbed = AbsorbedExpert { expert: last, share: 0.5, alignment: None };
            let second = &mut kept.groups[1];
            (second.share, second.absorbed) = (0.5, vec![absorbed]);
            kept
        });
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("proxy");
        let device = Device::flex();
        let mut asked = Vec::new();
        write_proxy(&checkpoint, &merged, &dir, &mut |layer, plan: &LayerPlan| {
            asked.push(layer);
            let expert = |group: usize| -> Option<ExpertWeights> {
                let moe = checkpoint.moe_layers().iter().find(|moe| moe.id == layer).unwrap();
                // The first is copied, the others are constant.
                (group > 0).then(|| {
                    let value = group as f32 / 3.0;
                    let full = |shape: [usize; 2]| Tensor::full(shape, value, &device);
                    let vector = |width: usize| Tensor::<1>::full([width], value, &device);
                    let centroid = checkpoint.experts(&device).expert(layer.expert(0)).unwrap();
                    let up = full([moe.d_expert, moe.d_model]);
                    ExpertWeights {
                        gate: centroid.gate.is_some().then(|| up.clone()),
                        up,
                        down: full([moe.d_model, moe.d_expert]),
                        biases: centroid.biases.is_some().then(|| ExpertBiases {
                            gate: Some(vector(moe.d_expert)),
                            up: vector(moe.d_expert),
                            down: vector(moe.d_model),
                        }),
                    }
                })
            };
            Ok((0..plan.groups.len()).map(expert).collect())
        })
        .unwrap();
        let mut layers: Vec<LayerId> =
            checkpoint.moe_layers().iter().map(|layer| layer.id).collect();
        layers.sort_unstable();
        asked.sort_unstable();
        assert_eq!(asked, layers, "each layer is asked for once");
        let proxy = Checkpoint::open(&dir).unwrap();
        let (new, old) = (proxy.experts(&device), checkpoint.experts(&device));
        for id in layers {
            let (copy, centroid) =
                (new.expert(id.expert(0)).unwrap(), old.expert(id.expert(0)).unwrap());
            assert_eq!(all_values(&copy), all_values(&centroid));
            let made = all_values(&new.expert(id.expert(2)).unwrap());
            assert!(made.iter().all(|&value| (value - 2.0 / 3.0).abs() < 2e-3 && value == made[0]));
        }
    }
}

#[test]
fn a_plan_is_written_without_indentation_and_may_be_larger_than_a_side_file() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let of = |input_sha256| {
        let of_layer = |_: &MoeLayer| keep(8, &[1, 3, 6]);
        let plan = plan(&checkpoint, RouterRule::Mask, of_layer);
        write(&checkpoint, &Plan { input_sha256, ..plan })
    };
    let written = fs::read_to_string(of(String::new()).dir.join("plan.json")).unwrap();
    assert!(
        written.starts_with("{\"version\":1,\"") && !written.contains(['\n', ' ']),
        "{written}"
    );
    let large = of("0".repeat((128 << 20) + 1));
    assert!(fs::metadata(large.dir.join("plan.json")).unwrap().len() > 128 << 20);
    let proxy = Checkpoint::open(&large.dir).unwrap();
    assert!(proxy.check_record().is_ok());
}

#[test]
fn a_file_that_is_added_to_a_proxy_or_removed_is_noticed() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let proxy = write(&checkpoint, &plan(&checkpoint, RouterRule::DropRows, |_| keep(8, &[0, 5])));
    let opened = Checkpoint::open(&proxy.dir).unwrap();
    opened.check_record().unwrap();
    for name in SIDE_FILES.into_iter().chain(["config.json", "plan.json"]) {
        let path = proxy.dir.join(name);
        let bytes = fs::read(&path).ok();
        match &bytes {
            Some(_) => fs::remove_file(&path).unwrap(),
            None => fs::write(&path, "{}").unwrap(),
        }
        match (opened.check_record(), bytes) {
            (Err(ModelError::Io { path: named, .. }), Some(bytes)) => {
                assert_eq!(named, path);
                fs::write(&path, bytes).unwrap();
            }
            (Err(ModelError::Added { path: named }), None) => {
                assert_eq!(named, path);
                fs::remove_file(&path).unwrap();
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
        opened.check_record().unwrap();
    }
}

//! A router bias on a foundation equals the proxy with fewer experts.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use burn::tensor::Device;
use litemoe_core::{
    BiasStage, ByRows, CausalLm, LanguageModel, LayerId, LayerPlan, MoeLayer, MoeModel,
    MountedAdapter, Observer, Pass, Plan, RouterBias, RouterRule, Routing,
};
use litemoe_model::{Checkpoint, Model};
use proptest::prelude::*;

use crate::edit::Copy;
use crate::forward::is_tie;
use crate::proxy;
use crate::setup::{TINY, error, input, keep, load, logits, plan, row, tiny, values};

static MODELS: LazyLock<[Model; TINY.len()]> = LazyLock::new(|| TINY.map(|name| load(tiny(name))));

/// Random experts of a layer by a seed: `more` above the minimum, equally many per group.
fn drawn(layer: &MoeLayer, more: usize, seed: u64) -> Vec<usize> {
    let (n_groups, least) = match layer.groups {
        Some(groups) => (groups.n_groups, groups.min_kept),
        None => (1, layer.top_k),
    };
    let size = layer.n_experts / n_groups;
    let seed = seed ^ (layer.id.block as u64) << 32;
    let of_group = |group: usize| {
        let keys = litemoe_fixtures::uniform(seed + group as u64, size);
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&x, &y| keys[x].total_cmp(&keys[y]));
        let mut kept: Vec<usize> = order[..(least + more).min(size)].to_vec();
        kept.sort_unstable();
        kept.into_iter().map(move |expert| group * size + expert)
    };
    (0..n_groups).flat_map(of_group).collect()
}

pub(crate) fn bias(plan: &Plan, penalty: f32) -> RouterBias {
    let kept: Vec<_> =
        plan.layers.iter().map(|(&id, layer)| (id, layer.n_experts, layer.centroids())).collect();
    let layers = kept.iter().map(|(id, n, kept)| (*id, *n, &kept[..]));
    RouterBias::keeping(BiasStage::of_rule(plan.options.router), layers, penalty)
}

fn biased(model: &Model, rows: &[Vec<u32>], bias: &RouterBias) -> Vec<f32> {
    bias.check(model.moe_layers()).unwrap();
    let mut pass = Pass { router_bias: ByRows::all(bias), ..Pass::plain() };
    values(&model.logits(&input(model, rows), &mut pass))
}

pub(crate) fn random_plan(name: &str, rule: RouterRule, more: usize, seed: u64) -> Plan {
    let checkpoint = Checkpoint::open(tiny(name)).unwrap();
    plan(&checkpoint, rule, |layer| keep(layer.n_experts, &drawn(layer, more, seed)))
}

fn proxy_of(name: &str, plan: &Plan) -> Model {
    load(&proxy::write(&Checkpoint::open(tiny(name)).unwrap(), plan).dir)
}

fn rows() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0u32..256, 1..20), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn restricted_to_a_proxys_experts_the_foundation_is_the_proxy(
        rows in rows(), index in 0..TINY.len(), more in 0usize..4, seed in 0u64..1000, mask in any::<bool>(),
    ) {
        let (name, foundation) = (TINY[index], &MODELS[index]);
        let rule = if mask { RouterRule::Mask } else { RouterRule::DropRows };
        let plan = random_plan(name, rule, more, seed);
        let proxy = proxy_of(name, &plan);
        let expected = logits(&proxy, &rows);
        let found = biased(foundation, &rows, &bias(&plan, f32::INFINITY));
        let far = error(&found, &expected);
        prop_assert!(far < 2e-5 || is_tie(&proxy, &rows), "{name} {rule}: {far}");
    }

    #[test]
    fn a_batch_of_three_biases_is_three_batches(
        rows in prop::collection::vec(prop::collection::vec(0u32..256, 1..16), 4),
        index in 0..TINY.len(), seed in 0u64..1000, penalty in 0.1f32..5.0,
    ) {
        let (name, model) = (TINY[index], &MODELS[index]);
        let biases = [
            bias(&random_plan(name, RouterRule::DropRows, 1, seed), f32::INFINITY),
            bias(&random_plan(name, RouterRule::Mask, 0, seed + 1), f32::INFINITY),
            bias(&random_plan(name, RouterRule::DropRows, 0, seed + 2), penalty),
        ];
        // The last row has no bias.
        let ranges = (0..).zip(&biases).map(|(row, bias)| (row..row + 1, bias)).collect();
        let mut pass = Pass { router_bias: ByRows::ranges(ranges), ..Pass::plain() };
        let together = values(&model.logits(&input(model, &rows), &mut pass));
        let alone = rows.iter().zip(biases.iter().map(Some).chain([None])).flat_map(|(row, bias)| {
            let row = std::slice::from_ref(row);
            bias.map_or_else(|| logits(model, row), |bias| biased(model, row, bias))
        });
        let far = error(&together, &alone.collect::<Vec<f32>>());
        let tie = || rows.iter().zip(&biases).any(|(row, bias)| is_near(model, row, bias))
            || is_tie(model, &rows);
        prop_assert!(far < 2e-5 || tie(), "{name}: {far}");
    }

    #[test]
    fn under_a_bias_cached_decoding_is_one_pass(
        chunks in prop::collection::vec(prop::collection::vec(0u32..256, 1..9), 1..5),
        index in 0..TINY.len() - 1, seed in 0u64..1000,
    ) {
        let (name, model) = (TINY[index], &MODELS[index]);
        let bias = bias(&random_plan(name, RouterRule::DropRows, 1, seed), f32::INFINITY);
        let row = chunks.concat();
        let whole = biased(model, std::slice::from_ref(&row), &bias);
        let mounted = MountedAdapter { router_bias: Some(bias), ..MountedAdapter::default() };
        let mut cache = model.new_cache();
        for chunk in &chunks {
            let last = values(&model.extend(chunk, &mut cache, Some(&mounted)));
            let expected = &whole[(cache.len() - 1) * model.vocab()..][..model.vocab()];
            let far = error(&last, expected);
            let near = || is_near(model, &row, mounted.router_bias.as_ref().unwrap());
            prop_assert!(far < 2e-5 || near(), "{name}: {far}");
        }
    }
}

/// Whether a tie between experts decides a row's logits under a bias: a bias that differs by 1e-5 changes them.
fn is_near(model: &Model, row: &[u32], bias: &RouterBias) -> bool {
    let plain = biased(model, &[row.to_vec()], bias);
    (0..16).any(|seed| {
        let layers: BTreeMap<LayerId, Vec<f32>> = model
            .moe_layers()
            .iter()
            .map(|layer| {
                let noise = litemoe_fixtures::uniform(seed, layer.n_experts);
                let biases = bias.at(layer.id).unwrap();
                (
                    layer.id,
                    biases.iter().zip(noise).map(|(bias, noise)| bias + 2e-5 * noise).collect(),
                )
            })
            .collect();
        let shaken = RouterBias::new(bias.stage(), layers).unwrap();
        error(&biased(model, &[row.to_vec()], &shaken), &plain) > 1e-3
    })
}

#[test]
fn a_bias_of_zero_is_the_foundation_bit_for_bit() {
    for (name, model) in TINY.iter().zip(&*MODELS) {
        let rows = [row(17), row(5)];
        for rule in [RouterRule::DropRows, RouterRule::Mask] {
            let plan = random_plan(name, rule, 0, 3);
            assert_eq!(biased(model, &rows, &bias(&plan, 0.0)), logits(model, &rows), "{name}");
            assert_ne!(biased(model, &rows, &bias(&plan, 8.0)), logits(model, &rows), "{name}");
        }
    }
}

/// Experts that received tokens.
#[derive(Default)]
struct Chosen(BTreeMap<LayerId, Vec<usize>>);

impl Observer for Chosen {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let experts = routing.experts.to_data();
        self.0.entry(layer).or_default().extend(experts.iter::<i64>().map(|e| e as usize));
    }

    fn wants_activations(&self) -> bool {
        false
    }
}

#[test]
fn tokens_go_to_other_experts_the_less_the_larger_the_penalty() {
    for (name, model) in TINY.iter().zip(&*MODELS) {
        let plan = random_plan(name, RouterRule::DropRows, 0, 5);
        let outside = |penalty: f32| {
            let (mut chosen, bias) = (Chosen::default(), bias(&plan, penalty));
            let mut pass = Pass::observed(&mut chosen);
            pass.router_bias = ByRows::all(&bias);
            model.logits(&input(model, &[row(40)]), &mut pass);
            let strays = chosen.0.iter().flat_map(|(layer, experts)| {
                let kept = plan.layers[layer].centroids();
                experts.iter().filter(move |expert| !kept.contains(expert))
            });
            strays.filter(|&&expert| expert < 8).count()
        };
        let counts = [0.0, 1.0, 1e4, f32::INFINITY].map(outside);
        assert!(counts[0] > counts[1] && counts[1] >= counts[2], "{name}: {counts:?}");
        assert_eq!(counts[3], 0, "{name}");
    }
}

/// Overwrites the weights of experts outside a plan with NaN, in place.
fn spoil(dir: &std::path::Path, plan: &BTreeMap<LayerId, LayerPlan>) {
    let path = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let start = bytes.as_ptr() as usize;
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let spoilt = file.tensors().into_iter().filter(|(name, _)| {
        plan.iter().any(|(layer, plan)| {
            let removed = |expert: &usize| {
                name.contains(&format!("layers.{}.mlp.experts.{expert}.", layer.block))
            };
            plan.removed.iter().any(removed)
        })
    });
    let ranges: Vec<_> = spoilt
        .map(|(_, view)| {
            let first = view.data().as_ptr() as usize - start;
            first..first + view.data().len()
        })
        .collect();
    assert!(ranges.len() > 10);
    ranges.into_iter().for_each(|range| bytes[range].fill(0xff));
    // In place rather than by a new file, so that the mapped bytes change.
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&bytes, 0).unwrap();
}

#[test]
fn removed_experts_are_not_read() {
    let copy = Copy::of("qwen3_moe");
    let model = Model::stream(&Checkpoint::open(copy.path()).unwrap(), &Device::flex()).unwrap();
    let plan = random_plan("qwen3_moe", RouterRule::DropRows, 1, 9);
    let bias = bias(&plan, f32::INFINITY);
    let rows = [row(20), row(4)];
    let expected = biased(&model, &rows, &bias);
    assert_eq!(expected, biased(&MODELS[0], &rows, &bias));
    spoil(copy.path(), &plan.layers);
    assert_eq!(biased(&model, &rows, &bias), expected);
    // A pass that may use them reads them, and fails.
    let all = std::panic::AssertUnwindSafe(|| logits(&model, &rows));
    assert!(std::panic::catch_unwind(all).is_err());
}

#[test]
fn biases_that_do_not_fit_are_refused() {
    let model = &MODELS[0];
    let of = |block, biases: Vec<f32>| {
        let layers = BTreeMap::from([(LayerId::decoder(block), biases)]);
        let bias = RouterBias::new(BiasStage::Logits, layers)?;
        bias.check(model.moe_layers())
    };
    let (low, nan) = (f32::NEG_INFINITY, f32::NAN);
    let message = |block, biases| of(block, biases).unwrap_err().to_string();
    assert!(of(0, vec![low, low, low, 0.0, low, -3.0, low, low]).is_ok());
    assert_eq!(
        message(0, vec![low, low, low, 0.0, low, low, low, low]),
        "layer 0: the router bias leaves 1 experts, but the router needs 2"
    );
    assert_eq!(
        message(7, vec![0.0; 8]),
        "the router bias names layer 7, but the model has no experts there"
    );
    assert_eq!(message(1, vec![0.0; 7]), "layer 1 has 8 experts, but the router bias is for 7");
    assert_eq!(
        message(1, vec![0.0, nan]),
        "layer 1 expert 1: a router bias is a finite number or -inf, but this one is NaN"
    );
    assert!(of(1, vec![f32::INFINITY; 8]).is_err());
}

#[test]
fn a_row_has_one_bias() {
    let bias = RouterBias::new(BiasStage::Logits, BTreeMap::new()).unwrap();
    let twice = || ByRows::ranges(vec![(0..3, &bias), (2..4, &bias)]);
    assert!(std::panic::catch_unwind(twice).is_err());
    let apart = ByRows::ranges(vec![(3..9, &bias), (0..1, &bias), (2..2, &bias)]);
    let has: Vec<bool> = apart.of_rows(5).iter().map(Option::is_some).collect();
    assert_eq!(has, [true, false, false, true, true]);
    assert!(apart.of_all(5).is_none() && ByRows::all(&bias).of_all(5).is_some());
}

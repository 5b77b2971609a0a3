//! Shared by the tests: fixtures by name, loaded models, plans.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{
    Adapters, Group, Input, LanguageModel, LayerPlan, Lora, MoeLayer, MoeModel, PLAN_VERSION, Pass,
    Plan, PlanOptions, RouterRule,
};
use litemoe_model::{Checkpoint, Model};

/// The tiny checkpoints; together they cover every family and layout.
pub(crate) const TINY: [&str; 15] = [
    "qwen3_moe",
    "windowed",
    "fused",
    "granitemoe",
    "mixtral",
    "mixtral_fused",
    "olmoe",
    "qwen2_moe",
    "phimoe",
    "deepseek_v2",
    "deepseek_v3",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "llama4_text",
    "switch_transformers",
];

pub(crate) fn tiny(name: &str) -> PathBuf {
    litemoe_fixtures::tiny_dir().with_file_name(name)
}

pub(crate) fn load(dir: impl AsRef<Path>) -> Model {
    Model::load(&Checkpoint::open(dir).unwrap(), &Device::flex()).unwrap()
}

pub(crate) fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().unwrap()
}

/// Logits of every token of every row, packed.
pub(crate) fn logits(model: &Model, rows: &[Vec<u32>]) -> Vec<f32> {
    values(&model.logits(&input(model, rows), &mut Pass::plain()))
}

/// Model input of rows; an encoder reads the same rows.
pub(crate) fn input(model: &Model, rows: &[Vec<u32>]) -> Input {
    let rows = rows.to_vec();
    Input { encoder_rows: model.has_encoder().then(|| rows.clone()), rows }
}

/// Row of ids in the vocabulary of every fixture.
pub(crate) fn row(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (7 + 31 * i) % 250).collect()
}

/// Largest difference, in units of `max(1, largest expected)`.
pub(crate) fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let unit = expected.iter().fold(1.0f32, |unit, value| unit.max(value.abs()));
    let difference = |(x, y): (&f32, &f32)| (x - y).abs();
    let largest = found.iter().zip(expected).map(difference).fold(0.0f32, f32::max);
    assert!(found.iter().all(|value| value.is_finite()));
    largest / unit
}

/// Random LoRA adapter at every site, experts included, with entries in `[-bound, bound]`.
pub(crate) fn random_adapters(model: &Model, bound: f32, scale: f32, device: &Device) -> Adapters {
    let random = |seed, shape: [usize; 2]| {
        let values = litemoe_fixtures::uniform(seed, shape.iter().product());
        let values = values.into_iter().map(|value| value * bound).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    let sites = (0..).step_by(2).zip(model.linear_sites()).map(|(seed, linear)| {
        let (a, b) = (random(seed, [linear.d_in, 3]), random(seed + 1, [3, linear.d_out]));
        (linear.site.clone(), Lora { a, b, scale })
    });
    sites.collect()
}

/// A plan that treats every layer alike.
pub(crate) fn plan(
    checkpoint: &Checkpoint,
    router: RouterRule,
    of: impl Fn(&MoeLayer) -> LayerPlan,
) -> Plan {
    let layers: BTreeMap<_, _> =
        checkpoint.moe_layers().iter().map(|layer| (layer.id, of(layer))).collect();
    Plan {
        version: PLAN_VERSION,
        fingerprint: checkpoint.fingerprint().clone(),
        input_sha256: String::new(),
        options: PlanOptions { router, ..PlanOptions::default() },
        layers,
    }
}

/// Keeps these experts and removes the others.
pub(crate) fn keep(n_experts: usize, kept: &[usize]) -> LayerPlan {
    LayerPlan {
        n_experts,
        groups: kept.iter().map(|&centroid| Group::single(centroid)).collect(),
        removed: (0..n_experts).filter(|expert| !kept.contains(expert)).collect(),
    }
}

/// Experts of a layer that leave its router enough to choose from: equally many per group.
pub(crate) fn some(layer: &MoeLayer) -> Vec<usize> {
    let Some(groups) = layer.groups else { return vec![0, 2, 4] };
    let size = layer.n_experts / groups.n_groups;
    let of_group = |group| (0..groups.min_kept).map(move |expert| group * size + expert);
    (0..groups.n_groups).flat_map(of_group).collect()
}

/// Copies every kept expert's bytes.
pub(crate) fn copies(
    _: litemoe_core::LayerId,
    plan: &LayerPlan,
) -> Result<Vec<Option<litemoe_core::ExpertWeights>>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(plan.groups.iter().map(|_| None).collect())
}

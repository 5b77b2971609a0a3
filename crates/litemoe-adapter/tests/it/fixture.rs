//! The tiny model of the golden files, its rows, and random adapters for it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{self, ThreadId};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_adapter::{ATTENTION, LoraOptions, init_lora};
use litemoe_core::{
    Adapters, Input, LanguageModel, LinearSite, Lora, MoeLayer, MoeModel, Pass, Sequence, Site,
    Stream,
};
use litemoe_model::{Checkpoint, Model};
use serde::Deserialize;

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

pub(crate) fn model() -> Model {
    Model::load(&Checkpoint::open(golden("base")).unwrap(), &Device::flex()).unwrap()
}

/// Rows of the golden files: prompts of 3 to 14 tokens, completions of 2 to 7.
pub(crate) fn rows() -> Vec<Sequence> {
    #[derive(Deserialize)]
    struct Row {
        tokens: Vec<u32>,
        prompt: usize,
    }
    let text = std::fs::read_to_string(golden("rows.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    let sequence = |row: Row| Sequence {
        completion: (0..row.tokens.len()).map(|token| token >= row.prompt).collect(),
        tokens: row.tokens,
        encoder: None,
    };
    rows.into_iter().map(sequence).collect()
}

/// An adapter on attention with random A and B.
pub(crate) fn random_adapters(model: &Model, seed: u64) -> Adapters {
    stirred(model, &attention(), seed)
}

/// LoRA options for attention alone.
pub(crate) fn attention() -> LoraOptions {
    LoraOptions { targets: vec![ATTENTION.to_owned()], ..LoraOptions::default() }
}

/// A new adapter whose B is random too.
pub(crate) fn stirred(model: &Model, options: &LoraOptions, seed: u64) -> Adapters {
    let adapters = init_lora(model.linear_sites(), options, seed, &Device::flex());
    let stir = |(index, (site, lora)): (usize, (&Site, &Lora))| {
        let values =
            litemoe_fixtures::uniform(1000 * seed + index as u64, lora.b.shape().num_elements());
        let b = Tensor::from_data(TensorData::new(values, lora.b.shape()), &Device::flex());
        (site.clone(), Lora { b: b.mul_scalar(0.08), ..lora.clone() })
    };
    adapters.unwrap().loras().enumerate().map(stir).collect()
}

pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

pub(crate) fn same_bits(x: &Adapters, y: &Adapters) -> bool {
    let bits = |adapters: &Adapters| -> Vec<(Site, Vec<u32>)> {
        let lora = |(site, lora): (&Site, &Lora)| {
            let both = [floats(lora.a.clone()), floats(lora.b.clone()), vec![lora.scale]].concat();
            (site.clone(), both.into_iter().map(f32::to_bits).collect())
        };
        adapters.loras().map(lora).collect()
    };
    bits(x) == bits(y)
}

/// Largest absolute difference, relative to the larger of 1 and the largest reference value.
pub(crate) fn distance(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let largest = reference.iter().fold(1.0_f32, |max, value| max.max(value.abs()));
    farthest(ours, reference) / largest
}

pub(crate) fn farthest(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// A model that ignores every adapter.
pub(crate) struct Deaf(pub(crate) Model);

impl MoeModel for Deaf {
    fn moe_layers(&self) -> &[MoeLayer] {
        self.0.moe_layers()
    }

    fn linear_sites(&self) -> &[LinearSite] {
        self.0.linear_sites()
    }
}

impl LanguageModel for Deaf {
    fn device(&self) -> Device {
        self.0.device()
    }

    fn vocab(&self) -> usize {
        self.0.vocab()
    }

    fn max_tokens(&self) -> usize {
        self.0.max_tokens()
    }

    fn embed(&self, input: &Input) -> Stream {
        self.0.embed(input)
    }

    fn n_blocks(&self) -> usize {
        self.0.n_blocks()
    }

    fn block(&self, index: usize, stream: Stream, _: &mut Pass<'_>) -> Stream {
        self.0.block(index, stream, &mut Pass::plain())
    }

    fn head(&self, hidden: Tensor<2>, _: &mut Pass<'_>) -> Tensor<2> {
        self.0.head(hidden, &mut Pass::plain())
    }
}

/// A model with more linear weights, which affect nothing, that notes the threads that run it.
pub(crate) struct Wrapped {
    pub(crate) model: Model,
    pub(crate) threads: Mutex<HashSet<ThreadId>>,
    sites: Vec<LinearSite>,
}

impl Wrapped {
    pub(crate) fn new(model: Model, more: &[LinearSite]) -> Self {
        let sites = [model.linear_sites(), more].concat();
        Self { model, threads: Mutex::default(), sites }
    }
}

impl MoeModel for Wrapped {
    fn moe_layers(&self) -> &[MoeLayer] {
        self.model.moe_layers()
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &self.sites
    }
}

impl LanguageModel for Wrapped {
    fn device(&self) -> Device {
        self.model.device()
    }

    fn vocab(&self) -> usize {
        self.model.vocab()
    }

    fn max_tokens(&self) -> usize {
        self.model.max_tokens()
    }

    fn embed(&self, input: &Input) -> Stream {
        self.threads.lock().unwrap().insert(thread::current().id());
        self.model.embed(input)
    }

    fn n_blocks(&self) -> usize {
        self.model.n_blocks()
    }

    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        self.model.block(index, stream, pass)
    }

    fn head(&self, hidden: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        self.model.head(hidden, pass)
    }
}

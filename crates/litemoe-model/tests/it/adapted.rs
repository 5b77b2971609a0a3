//! A LoRA adapter added at run time equals one merged into the weights.

use std::collections::BTreeMap;

use burn::tensor::Device;
use litemoe_core::{Adapters, ExpertPart, LanguageModel, LinearSite, Lora, MoeModel, Pass};
use litemoe_model::Model;
use safetensors::Dtype;

use crate::edit::{Copy, Raw};
use crate::setup::{error, input, load, random_adapters, row, tiny, values};

/// Where a weight is stored: the tensor, its first index, and the strides of output and input.
struct Place {
    tensor: String,
    first: usize,
    output: usize,
    input: usize,
}

/// Finds where the weight of a site is stored.
fn place(name: &str, site: &LinearSite) -> Place {
    let path = site.site.as_str();
    let Some((expert, part)) = site.role.expert().filter(|_| STACKED.contains(&name)) else {
        return Place { tensor: format!("{path}.weight"), first: 0, output: site.d_in, input: 1 };
    };
    let (is_down, is_up) = (part == ExpertPart::Down, usize::from(part == ExpertPart::Up));
    let n_out = if is_down { site.d_out } else { 2 * site.d_out };
    let first = expert.expert * n_out * site.d_in;
    let (block, _) = path.split_once(".experts.").unwrap();
    if name == "granitemoe" {
        let leaf = if is_down { "output_linear" } else { "input_linear" };
        let first = first + is_up * site.d_out * site.d_in;
        return Place {
            tensor: format!("{block}.{leaf}.weight"),
            first,
            output: site.d_in,
            input: 1,
        };
    }
    let leaf = if is_down { "down_proj" } else { "gate_up_proj" };
    let tensor = format!("{block}.experts.{leaf}");
    match name {
        "gpt_oss" if !is_down => Place { tensor, first: first + is_up, output: 2, input: n_out },
        _ => Place { tensor, first: first + is_up * site.d_out, output: 1, input: n_out },
    }
}

/// Families with fused expert tensors in this test.
const STACKED: [&str; 3] = ["granitemoe", "gpt_oss", "llama4_text"];

/// A tensor's values in f32.
fn widened(raw: &Raw) -> Vec<f32> {
    match raw.dtype {
        Dtype::F32 => {
            let (chunks, _) = raw.bytes.as_chunks();
            chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Dtype::BF16 => {
            let (chunks, _) = raw.bytes.as_chunks::<2>();
            chunks.iter().map(|&[low, high]| f32::from_le_bytes([0, 0, low, high])).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Merges scale · (A·B)ᵀ into the weight of a site; the tensor is f32 afterwards.
fn change(tensors: &mut BTreeMap<String, Raw>, name: &str, site: &LinearSite, lora: &Lora) {
    let delta = values(&lora.a.clone().matmul(lora.b.clone()).mul_scalar(lora.scale));
    let place = place(name, site);
    let raw = tensors.get_mut(&place.tensor).expect("a site is a weight");
    let mut weights = widened(raw);
    for (at, delta) in delta.into_iter().enumerate() {
        let (input, output) = (at / site.d_out, at % site.d_out);
        weights[place.first + output * place.output + input * place.input] += delta;
    }
    store(raw, &weights);
}

/// Widens a tensor to f32: an expert's tensors must share one number format.
fn widen(raw: &mut Raw) {
    let values = widened(raw);
    store(raw, &values);
}

fn store(raw: &mut Raw, values: &[f32]) {
    raw.bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    raw.dtype = Dtype::F32;
}

#[test]
fn an_adapter_is_its_product_in_the_weights() {
    for name in [
        "qwen3_moe",
        "mixtral",
        "olmoe",
        "qwen2_moe",
        "phimoe",
        "deepseek_v2",
        "deepseek_v3",
        "switch_transformers",
        "granitemoe",
        "gpt_oss",
        "llama4_text",
    ] {
        let model = load(tiny(name));
        let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
        let copy = Copy::of(name).tensors(|tensors| {
            if STACKED.contains(&name) {
                tensors.values_mut().for_each(widen);
            }
            for site in model.linear_sites() {
                change(tensors, name, site, adapters.at(site.site.as_str()).unwrap().lora());
            }
        });
        let logits = |model: &Model, adapters: &Adapters| {
            values(&model.logits(&input(model, &[row(20), row(7)]), &mut Pass::adapted(adapters)))
        };
        let none = Adapters::default();
        let [plain, adapted] = [&none, &adapters].map(|adapters| logits(&model, adapters));
        let by_hand = logits(&load(copy.path()), &none);
        assert!(error(&adapted, &by_hand) < 1e-4, "{name}: {}", error(&adapted, &by_hand));
        let experts: Adapters = model
            .linear_sites()
            .iter()
            .filter(|linear| linear.role.is_expert())
            .map(|linear| (linear.site.clone(), adapters.at(linear.site.as_str()).unwrap().clone()))
            .collect();
        let moved = error(&logits(&model, &experts), &plain);
        assert!(moved > 0.01, "{name}: the experts' updates move logits by {moved}");
    }
}

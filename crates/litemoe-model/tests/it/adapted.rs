//! An adapter beside the weights against the weights changed by hand.

use burn::tensor::Device;
use litemoe_core::{Adapters, LanguageModel, Lora, MoeModel, Pass};
use litemoe_model::Model;
use safetensors::Dtype;

use crate::edit::{Copy, Raw};
use crate::setup::{error, input, load, random_adapters, row, tiny, values};

/// The stored weight plus scale · (A·B)ᵀ, in f32.
fn changed(raw: &Raw, lora: &Lora) -> Raw {
    let delta = values(&lora.a.clone().matmul(lora.b.clone()).transpose().mul_scalar(lora.scale));
    let stored: Vec<f32> = match raw.dtype {
        Dtype::F32 => {
            let (chunks, _) = raw.bytes.as_chunks();
            chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Dtype::BF16 => {
            let (chunks, _) = raw.bytes.as_chunks::<2>();
            chunks.iter().map(|&[low, high]| f32::from_le_bytes([0, 0, low, high])).collect()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(stored.len(), delta.len());
    let sums = stored.iter().zip(delta).flat_map(|(weight, delta)| (weight + delta).to_le_bytes());
    Raw { dtype: Dtype::F32, shape: raw.shape.clone(), bytes: sums.collect() }
}

#[test]
fn beside_the_weights_is_in_the_weights() {
    for name in [
        "qwen3_moe",
        "mixtral",
        "olmoe",
        "qwen2_moe",
        "phimoe",
        "deepseek_v2",
        "deepseek_v3",
        "switch_transformers",
    ] {
        let model = load(tiny(name));
        let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
        let copy = Copy::of(name).tensors(|tensors| {
            for (site, lora) in adapters.iter() {
                let raw = tensors.get_mut(&format!("{site}.weight")).expect("a site is a weight");
                *raw = changed(raw, lora);
            }
        });
        let logits = |model: &Model, adapters: &Adapters| {
            values(&model.logits(&input(model, &[row(20), row(7)]), &mut Pass::adapted(adapters)))
        };
        let none = Adapters::default();
        let [plain, beside] = [&none, &adapters].map(|adapters| logits(&model, adapters));
        let by_hand = logits(&load(copy.path()), &none);
        assert!(error(&beside, &by_hand) < 1e-4, "{name}: {}", error(&beside, &by_hand));
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

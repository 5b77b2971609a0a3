//! Contents of PEFT directories without a model.

use std::fs;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_adapter::{AdapterError, delta_norm, peft};
use litemoe_core::{Lora, MoeModel};
use litemoe_model::{Checkpoint, Outline};
use proptest::prelude::*;

use crate::fixture::{floats, golden, model};
use crate::peft::{copy, set};

fn tensor(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// ‖scale · A·B‖ from the product.
fn dense_norm(lora: &Lora) -> f64 {
    let product = floats(lora.a.clone().matmul(lora.b.clone()));
    let square: f64 = product.iter().map(|&value| f64::from(value).powi(2)).sum();
    f64::from(lora.scale).abs() * square.sqrt()
}

proptest! {
    #[test]
    fn the_norm_of_an_update_is_that_of_the_product(
        seed in 0u64..1000, rank in 1usize..5, d_in in 1usize..9, d_out in 1usize..9, scale in -3f32..3.0,
    ) {
        let values = |seed, n| litemoe_fixtures::uniform(seed, n);
        let a = tensor(values(seed, d_in * rank), [d_in, rank]);
        let b = tensor(values(seed + 1, rank * d_out), [rank, d_out]);
        let lora = Lora { a, b, scale };
        let (found, expected) = (delta_norm(&lora), dense_norm(&lora));
        // Cancelling terms of the square leave its root with half of the digits.
        let terms = f64::from(scale).abs() * (rank * d_in * d_out) as f64;
        prop_assert!((found - expected).abs() <= 1e-6 * terms.max(1e-30), "{found}, not {expected}");
    }
}

#[test]
fn an_update_of_zero_has_the_norm_zero() {
    let lora =
        Lora { a: tensor(vec![1.0; 6], [3, 2]), b: tensor(vec![0.0; 8], [2, 4]), scale: 2.0 };
    assert_eq!(delta_norm(&lora), 0.0);
    // Two opposite components.
    let (a, b) = (tensor(vec![1.0; 6], [3, 2]), tensor(vec![1.0, 1.0, -1.0, -1.0], [2, 2]));
    assert_eq!(delta_norm(&Lora { a, b, scale: 2.0 }), 0.0);
}

#[test]
fn a_summary_says_what_reading_for_the_model_finds() {
    let model = model();
    for name in ["plain", "patterned"] {
        let read = peft::read(&golden(name), model.linear_sites(), &Device::flex()).unwrap();
        let summary = peft::summary(&golden(name)).unwrap();
        assert_eq!((&summary.config, &summary.sha256), (&read.config, &read.sha256));
        assert_eq!(summary.modules.len(), read.adapters.len());
        for ((site, lora), found) in read.adapters.loras().zip(&summary.modules) {
            assert_eq!(
                (&*found.path, found.rank, found.scale),
                (site.as_str(), lora.rank(), lora.scale)
            );
            let expected = delta_norm(lora);
            assert!((found.norm - expected).abs() <= 1e-9 * expected, "{site}");
            let values = lora.a.shape().num_elements() + lora.b.shape().num_elements();
            assert_eq!((found.parameters, found.n_experts), (values as u64, None));
        }
    }
    let patterned = peft::summary(&golden("patterned")).unwrap();
    let at = |path: &str| patterned.modules.iter().find(|lora| lora.path == path).unwrap();
    // α is scale · √r with rsLoRA.
    assert!((at("model.layers.1.self_attn.q_proj").alpha - 6.0).abs() < 1e-6);
    assert_eq!(
        patterned.peft_version.as_deref().map(|version| version.starts_with("0.")),
        Some(true)
    );
}

#[test]
fn stacks_have_the_norm_of_their_experts() {
    let tiny = |name: &str| litemoe_fixtures::tiny_dir().with_file_name(name);
    for (name, base) in [
        ("stacked", golden("base")),
        ("stacked_granitemoe", tiny("granitemoe")),
        ("stacked_gpt_oss", tiny("gpt_oss")),
        ("stacked_llama4_text", tiny("llama4_text")),
        ("all_qwen2_moe", tiny("qwen2_moe")),
    ] {
        let model = Outline::of(&Checkpoint::open(base).unwrap());
        let read = peft::read(&golden(name), model.linear_sites(), &Device::flex()).unwrap();
        let summary = peft::summary(&golden(name)).unwrap();
        let stacks = summary.modules.iter().filter(|lora| lora.n_experts.is_some());
        assert!(name.starts_with("all") || stacks.clone().count() > 0, "{name}");
        let n_experts = model.moe_layers()[0].n_experts;
        assert!(stacks.clone().all(|lora| lora.n_experts == Some(n_experts)), "{name}");
        let square =
            |norms: &mut dyn Iterator<Item = f64>| norms.map(|norm| norm * norm).sum::<f64>();
        let found = square(&mut summary.modules.iter().map(|lora| lora.norm));
        let expected = square(&mut read.adapters.loras().map(|(_, lora)| delta_norm(lora)));
        assert!((found / expected - 1.0).abs() < 1e-9, "{name}: {found}, not {expected}");
    }
}

#[test]
fn what_is_no_lora_is_refused() {
    let summary = |key: &str, value: serde_json::Value| {
        let (_keep, dir) = copy("plain");
        set(&dir, key, value);
        peft::summary(&dir).unwrap_err()
    };
    let dora = summary("use_dora", true.into());
    assert!(matches!(&dora, AdapterError::Unsupported { key, .. } if key == "use_dora"), "{dora}");
    let rank = summary("r", 7.into());
    assert!(matches!(rank, AdapterError::Shape { .. }), "{rank}");
    let (_keep, dir) = copy("plain");
    fs::remove_file(dir.join(peft::MODEL_FILE)).unwrap();
    assert!(matches!(peft::summary(&dir), Err(AdapterError::NotAnAdapter { .. })));
}

//! KV caches in bf16.

use burn::tensor::Device;
use litemoe_core::{CacheDtype, CausalLm, LanguageModel, Pass};
use litemoe_model::{Model, ModelError};

use crate::setup::{TINY, error, input, load, logits, random_adapters, row, tiny, values};

fn with_bf16(name: &str) -> Model {
    load(tiny(name)).with_cache_dtype(CacheDtype::Bf16).unwrap()
}

/// A value on the border between two in bf16 may be rounded either way, so passes differ by more than in f32.
#[test]
fn cached_decoding_is_one_pass_up_to_rounding() {
    let Some((_, decoders)) = TINY.split_last() else { unreachable!() };
    for name in decoders {
        let (model, exact) = (with_bf16(name), load(tiny(name)));
        assert_eq!((model.cache_dtype(), exact.cache_dtype()), (CacheDtype::Bf16, CacheDtype::F32));
        let tokens = row(model.max_tokens().min(90));
        let [whole, in_f32] = [&model, &exact].map(|it| logits(it, std::slice::from_ref(&tokens)));
        let rounding = error(&whole, &in_f32);
        // Rounding may decide between experts of a random model otherwise.
        assert!((1e-5..0.5).contains(&rounding), "{name}: {rounding}");
        let mut cache = model.new_cache();
        for chunk in tokens.chunks(37) {
            let last = values(&model.extend(chunk, &mut cache, None));
            let expected = &whole[(cache.len() - 1) * model.vocab()..][..model.vocab()];
            let far = error(&last, expected);
            assert!(far < 0.02, "{name}: {far}");
        }
    }
}

/// Were the cache in f32, decoding would give the logits of the model whose cache is.
#[test]
fn decoding_is_nearer_to_a_pass_in_bf16_than_to_one_in_f32() {
    let (model, exact) = (with_bf16("qwen3_moe"), load(tiny("qwen3_moe")));
    let tokens = row(40);
    let decoded = |model: &Model| {
        let mut cache = model.new_cache();
        let chunks = tokens.chunks(7).map(|chunk| values(&model.extend(chunk, &mut cache, None)));
        chunks.last().unwrap()
    };
    let last = |model: &Model| {
        let all = logits(model, std::slice::from_ref(&tokens));
        all[(tokens.len() - 1) * model.vocab()..].to_vec()
    };
    let (found, in_bf16, in_f32) = (decoded(&model), last(&model), last(&exact));
    assert!(4. * error(&found, &in_bf16) < error(&found, &in_f32));
    assert!(error(&decoded(&exact), &in_f32) < 2e-5);
}

#[test]
fn a_pass_with_gradients_is_in_f32() {
    let (model, exact) = (with_bf16("qwen3_moe"), load(tiny("qwen3_moe")));
    let tracked = random_adapters(&model, 0.3, 0.5, &Device::flex().autodiff());
    let plain = random_adapters(&model, 0.3, 0.5, &Device::flex());
    let pass = |model: &Model, adapters| {
        values(&model.logits(&input(model, &[row(20)]), &mut Pass::adapted(adapters)))
    };
    let expected = pass(&exact, &plain);
    assert!(error(&pass(&model, &tracked), &expected) < 2e-5);
    assert!(error(&pass(&model, &plain), &expected) > 1e-5);
}

#[test]
fn models_without_attention_kernels_refuse_it() {
    let name = "switch_transformers";
    let refused = load(tiny(name)).with_cache_dtype(CacheDtype::Bf16).unwrap_err();
    assert!(
        matches!(refused, ModelError::CacheDtype { dtype: CacheDtype::Bf16, family } if family == name),
        "{refused}"
    );
    assert!(refused.to_string().contains("decoder-only"), "{refused}");
    let model = load(tiny(name)).with_cache_dtype(CacheDtype::F32).unwrap();
    assert_eq!(model.cache_dtype(), CacheDtype::F32);
}

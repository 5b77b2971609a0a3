//! A quantised checkpoint is the model that is quantised when it is loaded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use litemoe_core::{LanguageModel, MoeLayer, Pass, RouterRule, WeightDtype};
use litemoe_model::{Checkpoint, Fusion, Model, ModelError, Part, Quantisation, write_proxy};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::edit::{Copy, Raw, encode, read};
use crate::setup::{
    TINY, copies, error, input, keep, load, logits, plan, random_adapters, row, tiny, values,
};

const QUANTISED: [WeightDtype; 2] = [WeightDtype::Q8, WeightDtype::Q4];

fn write_quantised(source: &Path, dtype: WeightDtype, out: &Path) -> Result<(), ModelError> {
    let checkpoint = Checkpoint::open(source)?;
    let quantisation = Quantisation::of(&checkpoint, dtype)?;
    let mut wrote = 0;
    quantisation.stage(out, &Device::flex(), &mut |bytes| wrote += bytes)?.commit()?;
    assert_eq!(wrote, quantisation.bytes());
    Ok(())
}

/// A quantised copy of a fixture.
pub(crate) fn quantised(name: &str, dtype: WeightDtype) -> Copy {
    quantised_copy(Copy::of(name), dtype)
}

fn quantised_copy(copy: Copy, dtype: WeightDtype) -> Copy {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("quantised");
    write_quantised(copy.path(), dtype, &out).unwrap();
    copy.replaced_by(&out)
}

fn loaded_as(dir: &Path, dtype: WeightDtype) -> Model {
    Model::load_as(&Checkpoint::open(dir).unwrap(), &Device::flex(), dtype).unwrap()
}

fn rows() -> [Vec<u32>; 2] {
    [row(20), row(7)]
}

#[test]
fn a_quantised_checkpoint_has_the_weights_of_its_source_to_the_bit() {
    for name in TINY {
        for dtype in QUANTISED {
            let copy = quantised(name, dtype);
            let (checkpoint, source) =
                (Checkpoint::open(copy.path()).unwrap(), Checkpoint::open(tiny(name)).unwrap());
            let found = checkpoint.quantised().unwrap();
            assert_eq!((found.dtype, &found.source), (dtype, source.fingerprint()), "{name}");
            assert_ne!(checkpoint.fingerprint(), source.fingerprint(), "{name}");
            assert_eq!(checkpoint.config().eos_ids, source.config().eos_ids);
            let [own, expected] = [copy.path(), &tiny(name)].map(|dir| loaded_as(dir, dtype));
            assert_eq!(logits(&own, &rows()), logits(&expected, &rows()), "{name} {dtype}");
            assert_eq!(checkpoint.loaded_bytes(dtype), source.loaded_bytes(dtype), "{name}");
            assert_eq!(checkpoint.moe_layers().len(), source.moe_layers().len(), "{name}");
        }
    }
}

#[test]
fn every_layout_of_experts_is_quantised() {
    for name in TINY {
        let copy = quantised(name, WeightDtype::Q4);
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let experts = checkpoint.stored_parts().filter(|stored| stored.part == Part::Experts);
        let (in_blocks, others): (Vec<_>, Vec<_>) =
            experts.partition(|stored| stored.dtype == "Q4_0");
        assert!(!in_blocks.is_empty(), "{name}");
        assert!(others.iter().all(|stored| stored.name.ends_with("bias")), "{name}: {others:?}");
    }
}

#[test]
fn dequantised_it_computes_what_its_blocks_say() {
    for name in TINY {
        let copy = quantised(name, WeightDtype::Q8);
        let model = load(copy.path());
        let streamed = Model::stream(&Checkpoint::open(copy.path()).unwrap(), &Device::flex());
        assert_eq!(logits(&model, &rows()), logits(&streamed.unwrap(), &rows()), "{name}");
        let exact = logits(&load(tiny(name)), &rows());
        let far = error(&logits(&model, &rows()), &exact);
        // Rounding may decide between experts of a random model otherwise.
        assert!((1e-6..0.5).contains(&far), "{name}: {far}");
    }
}

/// The proxy of all experts is the model, with its values in bf16.
#[test]
fn a_proxy_of_a_quantised_model_has_its_values_in_bf16() {
    for name in ["qwen3_moe", "gpt_oss_mxfp4", "llama4_text", "granitemoe"] {
        let copy = quantised(name, WeightDtype::Q4);
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let all =
            |layer: &MoeLayer| keep(layer.n_experts, &(0..layer.n_experts).collect::<Vec<_>>());
        let plan = plan(&checkpoint, RouterRule::DropRows, all);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("proxy");
        write_proxy(&checkpoint, &plan, &out, &mut copies).unwrap();
        let proxy = Checkpoint::open(&out).unwrap();
        assert!(proxy.quantised().is_none());
        assert_eq!(&proxy.origin().unwrap().foundation, checkpoint.fingerprint());
        let tensors = read(&out.join("model.safetensors"));
        assert!(tensors.values().all(|raw| raw.dtype != Dtype::U8), "{name}");
        let [found, expected] = [&*out, copy.path()].map(|dir| logits(&load(dir), &rows()));
        assert!(error(&found, &expected) < 0.03, "{name}: {}", error(&found, &expected));
    }
}

#[test]
fn an_adapter_computes_on_it_what_it_computes_on_its_source() {
    let copy = quantised("qwen3_moe", WeightDtype::Q4);
    let [own, source] =
        [copy.path(), &tiny("qwen3_moe")].map(|dir| loaded_as(dir, WeightDtype::Q4));
    let adapters = random_adapters(&source, 0.2, 1.0, &Device::flex());
    let adapted = |model: &Model| {
        values(&model.logits(&input(model, &rows()), &mut Pass::adapted(&adapters)))
    };
    assert_eq!(adapted(&own), adapted(&source));
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    for dtype in [WeightDtype::F32, WeightDtype::Bf16] {
        let refused = Quantisation::of(&checkpoint, dtype).err().unwrap();
        assert!(matches!(refused, ModelError::UnquantisedFormat { .. }), "{refused}");
    }
    let copy = quantised("qwen3_moe", WeightDtype::Q8);
    let own = Checkpoint::open(copy.path()).unwrap();
    let refused = Quantisation::of(&own, WeightDtype::Q4).err().unwrap();
    assert!(matches!(refused, ModelError::IsQuantised { what: "quantising", .. }), "{refused}");
    let model = load(copy.path());
    let refused = Fusion::of(&own, &random_adapters(&model, 0.1, 1.0, &Device::flex()));
    assert!(matches!(refused.err().unwrap(), ModelError::IsQuantised { what: "fusing", .. }));

    let folder = tempfile::tempdir().unwrap();
    for rule in [RouterRule::DropRows, RouterRule::Redirect] {
        let plan = plan(&checkpoint, rule, |layer| keep(layer.n_experts, &[0, 1, 2, 3]));
        let out = folder.path().join(rule.to_string());
        write_proxy(&checkpoint, &plan, &out, &mut copies).unwrap();
        let proxy = Checkpoint::open(&out).unwrap();
        let refused = Quantisation::of(&proxy, WeightDtype::Q8).err().unwrap();
        assert!(matches!(refused, ModelError::QuantisedProxy { .. }), "{refused}");
    }
}

#[test]
fn values_beyond_the_format_are_named_and_nothing_is_written() {
    let name = "model.layers.0.mlp.experts.1.down_proj.weight";
    for (value, is_finite) in [(3e38f32, true), (f32::NAN, false)] {
        let copy = Copy::of("qwen3_moe").tensors(|tensors| {
            let raw = tensors.get_mut(name).unwrap();
            let size = raw.bytes.len() / raw.shape.iter().product::<usize>();
            let bytes = value.to_le_bytes();
            raw.bytes[..size].copy_from_slice(&bytes[4 - size..]);
        });
        let folder = tempfile::tempdir().unwrap();
        let refused = write_quantised(copy.path(), WeightDtype::Q4, &folder.path().join("out"));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(name) && text.contains("that q4 weights") == is_finite, "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn only_an_output_of_an_earlier_call_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    write_quantised(&tiny("qwen3_moe"), WeightDtype::Q8, &out).unwrap();
    write_quantised(&tiny("qwen3_moe"), WeightDtype::Q4, &out).unwrap();
    let dtype = |dir: &Path| Checkpoint::open(dir).unwrap().quantised().unwrap().dtype;
    assert_eq!(dtype(&out), WeightDtype::Q4);
    fs::write(out.join("notes.txt"), "mine").unwrap();
    write_quantised(&tiny("qwen3_moe"), WeightDtype::Q8, &out).unwrap_err();
    assert_eq!(dtype(&out), WeightDtype::Q4);
    let other = Copy::of("qwen3_moe");
    write_quantised(&tiny("qwen3_moe"), WeightDtype::Q8, other.path()).unwrap_err();
    assert!(Checkpoint::open(other.path()).unwrap().quantised().is_none());
}

#[test]
fn blocks_and_configuration_must_agree() {
    let refused = |copy: Copy| Checkpoint::open(copy.path()).unwrap_err().to_string();
    let of = || quantised("qwen3_moe", WeightDtype::Q4);
    let without = of().config(|config| drop(config.remove("quantization_config")));
    let text = refused(without);
    assert!(text.contains("is in Q") && text.contains("not quantised"), "{text}");
    let plain = of().tensors(|tensors| {
        let source = read(&tiny("qwen3_moe").join("model.safetensors"));
        *tensors = source.into_iter().collect();
    });
    let text = refused(plain);
    assert!(text.contains("is in F32, but by the quantization_config"), "{text}");
    // Each tensor in its format, and nothing else in blocks.
    let router = "model.layers.1.mlp.gate.weight";
    let blocks = "model.layers.1.self_attn.k_proj.weight_q8_0";
    let odd = of().tensors(|tensors| {
        let (plain, blocks) = (tensors[router].clone(), tensors[blocks].clone());
        let shape = vec![plain.shape[0], blocks.shape[1], blocks.shape[2]];
        let bytes = blocks.bytes[..shape.iter().product()].to_vec();
        tensors.remove(router);
        tensors.insert(format!("{router}_q8_0"), Raw { shape, bytes, ..blocks });
    });
    let text = refused(odd);
    assert!(text.contains(router) && text.contains("is in Q8_0"), "{text}");
    let text = refused(of().config(|config| config["quantization_config"]["format"] = json!("q8")));
    assert!(text.contains("is in Q4_0, but") && text.contains("it is Q8_0"), "{text}");
    let cases = [
        ("format", json!("q5"), "q8 or q4"),
        ("format", json!("bf16"), "q8 or q4"),
        ("source", Value::Null, "quantization_config.source"),
        ("source", json!("\u{1b}[31m"), "64 hexadecimal digits"),
        ("source", json!("g".repeat(64)), "64 hexadecimal digits"),
        ("group_size", json!(16), "quantization_config.group_size"),
        ("quant_method", json!("awq"), "quantization_config"),
    ];
    for (key, value, named) in cases {
        let copy = of().config(|config| config["quantization_config"][key] = value.clone());
        let text = refused(copy);
        assert!(text.contains(named), "{key} {value}: {text}");
    }
}

#[test]
fn broken_blocks_are_refused() {
    let name = "model.layers.0.self_attn.q_proj.weight_q8_0";
    let with = |change: fn(&mut Raw)| {
        quantised("qwen3_moe", WeightDtype::Q8)
            .tensors(|tensors| change(tensors.get_mut(name).unwrap()))
    };
    let refused = |copy: &Copy| Checkpoint::open(copy.path()).map(drop).unwrap_err().to_string();
    // Not 34 bytes: not blocks, and no tensor that the model has.
    let text = refused(&with(|raw| {
        let n: usize = raw.shape.iter().product();
        raw.shape = vec![raw.shape[0], 4, n / raw.shape[0] / 4];
    }));
    assert!(text.contains("q_proj.weight"), "{text}");
    let text = refused(&with(|raw| raw.dtype = Dtype::I8));
    assert!(text.contains("q_proj.weight"), "{text}");
    let text = refused(&with(|raw| {
        raw.shape[0] /= 2;
        raw.bytes.truncate(raw.bytes.len() / 2);
    }));
    assert!(text.contains("q_proj.weight") && text.contains("shape"), "{text}");
    // A scale that is not finite.
    let copy = with(|raw| raw.bytes[..2].copy_from_slice(&[0, 0x7c]));
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
    for dtype in [WeightDtype::F32, WeightDtype::Q8] {
        let text = Model::load_as(&checkpoint, &Device::flex(), dtype).err().unwrap().to_string();
        assert!(text.contains("q_proj.weight"), "{dtype}: {text}");
    }
    // Both forms of one tensor.
    let both = quantised("qwen3_moe", WeightDtype::Q8).tensors(|tensors| {
        let source = read(&tiny("qwen3_moe").join("model.safetensors"));
        let plain = "model.layers.0.self_attn.q_proj.weight";
        tensors.insert(plain.to_owned(), source[plain].clone());
    });
    let text = refused(&both);
    assert!(text.contains("is there twice"), "{text}");
}

/// The index has the names in the files, which say the formats.
#[test]
fn shards_of_blocks_are_one_model() {
    let whole = quantised("qwen3_moe", WeightDtype::Q4);
    let expected = logits(&load(whole.path()), &rows());
    let tensors = read(&whole.file("model.safetensors"));
    let (mut shards, mut index) = ([BTreeMap::new(), BTreeMap::new()], BTreeMap::new());
    for (at, (name, raw)) in tensors.into_iter().enumerate() {
        index.insert(name.clone(), format!("model-{}.safetensors", at % 2));
        shards[at % 2].insert(name, raw);
    }
    fs::remove_file(whole.file("model.safetensors")).unwrap();
    for (at, shard) in shards.iter().enumerate() {
        fs::write(whole.file(&format!("model-{at}.safetensors")), encode(shard)).unwrap();
    }
    let index = json!({ "weight_map": index }).to_string();
    fs::write(whole.file("model.safetensors.index.json"), index).unwrap();
    let checkpoint = Checkpoint::open(whole.path()).unwrap();
    assert_eq!(checkpoint.leftovers(), []);
    assert_eq!(logits(&load(whole.path()), &rows()), expected);
}

/// Experts are as wide in a proxy as the widest of their tensors.
#[test]
fn a_proxy_has_the_bytes_that_are_forecast() {
    let widened = Copy::of("gpt_oss").tensors(|tensors| {
        let halves = tensors.values_mut().filter(|raw| raw.dtype == Dtype::BF16);
        halves.for_each(|raw| {
            let widen = |half: &[u8; 2]| [0, 0, half[0], half[1]];
            raw.bytes = raw.bytes.as_chunks::<2>().0.iter().flat_map(widen).collect();
            raw.dtype = Dtype::F32;
        });
    });
    let mut all: Vec<(&str, Copy)> =
        TINY.iter().map(|&name| (name, quantised(name, WeightDtype::Q4))).collect();
    all.push(("gpt_oss in f32", quantised_copy(widened, WeightDtype::Q4)));
    all.extend(TINY.map(|name| (name, Copy::of(name))));
    for (name, copy) in all {
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("proxy");
        let all =
            |layer: &MoeLayer| keep(layer.n_experts, &(0..layer.n_experts).collect::<Vec<_>>());
        let plan = plan(&checkpoint, RouterRule::DropRows, all);
        write_proxy(&checkpoint, &plan, &out, &mut copies).unwrap();
        let proxy = Checkpoint::open(&out).unwrap();
        assert_eq!(checkpoint.bytes_in_proxy(), proxy.bytes(), "{name}");
        assert_eq!(checkpoint.expert_bytes(), proxy.expert_bytes(), "{name}");
    }
}

//! A fused model is the foundation with the adapter.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use burn::tensor::Device;
use half::f16;
use litemoe_core::{Adapters, LanguageModel, Lora, MoeLayer, Pass, RouterRule, Site};
use litemoe_model::{Checkpoint, Fused, Fusion, Model, ModelError, write_proxy};
use safetensors::Dtype;

use crate::edit::{Copy, Raw, read};
use crate::setup::{
    TINY, copies, error, input, keep, load, logits, plan, random_adapters, row, tiny, values,
};

fn write_fused(
    checkpoint: &Checkpoint,
    adapters: &Adapters,
    out: &Path,
    wrote: &mut dyn FnMut(u64),
) -> Result<Fused, ModelError> {
    Fusion::of(checkpoint, adapters)?.write(out, wrote)
}

fn adapted(model: &Model, adapters: &Adapters) -> Vec<f32> {
    values(&model.logits(&input(model, &rows()), &mut Pass::adapted(adapters)))
}

fn rows() -> [Vec<u32>; 2] {
    [row(20), row(7)]
}

/// All tensors of a directory's weight files.
fn tensors(dir: &Path) -> BTreeMap<String, Raw> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let weights = files.filter(|path| {
        path.file_name().unwrap().to_str().unwrap().starts_with("model")
            && path.extension().unwrap() == "safetensors"
    });
    weights.flat_map(|path| read(&path)).collect()
}

#[test]
fn logits_are_those_of_model_and_adapter() {
    for name in TINY.into_iter().filter(|name| *name != "gpt_oss_mxfp4") {
        // In f32, since rounding has its own test.
        let copy = Copy::of(name).tensors(|tensors| {
            let halves = tensors.values_mut().filter(|raw| raw.dtype != Dtype::F32);
            halves.for_each(widen_bf16);
        });
        let (checkpoint, model) = (Checkpoint::open(copy.path()).unwrap(), load(copy.path()));
        let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("fused");
        let mut bytes = 0;
        let fused = write_fused(&checkpoint, &adapters, &out, &mut |wrote| bytes += wrote).unwrap();
        assert_eq!(bytes, fused.bytes, "{name}");
        let found = logits(&load(&out), &rows());
        let moved = error(&found, &logits(&model, &rows()));
        assert!(moved > 0.05, "{name}: logits move by {moved}");
        let expected = adapted(&model, &adapters);
        assert!(error(&found, &expected) < 1e-5, "{name}: {}", error(&found, &expected));
    }
}

#[test]
fn mxfp4_experts_are_fused_as_those_of_a_proxy_in_bf16() {
    let checkpoint = Checkpoint::open(tiny("gpt_oss_mxfp4")).unwrap();
    let all = |layer: &MoeLayer| keep(layer.n_experts, &(0..layer.n_experts).collect::<Vec<_>>());
    let plan = plan(&checkpoint, RouterRule::DropRows, all);
    let folder = tempfile::tempdir().unwrap();
    let [proxy, of_proxy, out] =
        ["proxy", "of-proxy", "fused"].map(|name| folder.path().join(name));
    write_proxy(&checkpoint, &plan, &proxy, &mut copies).unwrap();
    let adapters = random_adapters(&load(&proxy), 0.17, 1.5, &Device::flex());
    let fused = write_fused(&checkpoint, &adapters, &out, &mut |_| ()).unwrap();
    assert!(fused.dequantised && fused.rounding.relative() > 1e-4);
    let plain = Checkpoint::open(&proxy).unwrap();
    write_fused(&plain, &adapters, &of_proxy, &mut |_| ()).unwrap();
    let (found, expected) = (tensors(&out), tensors(&of_proxy));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, raw) in found {
        assert!(raw.bytes == expected[&name].bytes && raw.dtype == expected[&name].dtype, "{name}");
    }
    let configs = [&out, &of_proxy].map(|dir| fs::read_to_string(dir.join("config.json")).unwrap());
    assert!(configs.iter().all(|config| !config.contains("quantization_config")));
}

#[test]
fn weights_in_bf16_are_the_sums_rounded_once() {
    for name in ["qwen2_moe", "gpt_oss", "llama4_text", "granitemoe"] {
        let copy = Copy::of(name).tensors(|tensors| {
            for raw in tensors.values_mut().filter(|raw| raw.dtype == Dtype::F32) {
                let halves =
                    raw.bytes.as_chunks::<4>().0.iter().flat_map(|&[_, _, low, high]| [low, high]);
                (raw.bytes, raw.dtype) = (halves.collect(), Dtype::BF16);
            }
        });
        let (checkpoint, model) = (Checkpoint::open(copy.path()).unwrap(), load(copy.path()));
        let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("fused");
        let fused = write_fused(&checkpoint, &adapters, &out, &mut |_| ()).unwrap();
        // Half a unit in the last of 8 bits, of weights that are below 2 here.
        let (_, worst) = fused.worst.expect("updates");
        assert!(worst.max_error > 1e-4 && worst.max_error <= 2f64.powi(-8), "{name}: {worst:?}");
        assert!(fused.rounding.relative() > 1e-5 && fused.rounding.relative() < 0.1, "{name}");
        // In f32 the same sums are exact to 2^-24; rounding them gives the bf16 tensors.
        let wide = Copy::of(name).tensors(|tensors| tensors.values_mut().for_each(widen_bf16));
        let wide_out = folder.path().join("wide");
        write_fused(&Checkpoint::open(wide.path()).unwrap(), &adapters, &wide_out, &mut |_| ())
            .unwrap();
        let (narrow, wide) = (tensors(&out), tensors(&wide_out));
        assert_eq!(narrow.len(), wide.len());
        for (tensor, raw) in narrow {
            let expected = wide[&tensor].bytes.as_chunks::<4>().0.iter();
            let found = raw.bytes.as_chunks::<2>().0.iter();
            for (&[low, high], &wide) in found.zip(expected) {
                let wide = f32::from_le_bytes(wide);
                let narrow = f32::from_le_bytes([0, 0, low, high]);
                let unit = 2f32.powi(wide.abs().log2().floor().max(-126.0) as i32 - 8);
                assert!((narrow - wide).abs() <= unit, "{name} {tensor}: {narrow} is not {wide}");
            }
        }
    }
}

/// Cuts f32 values to bf16 and widens them again; widens halves.
fn widen_bf16(raw: &mut Raw) {
    raw.bytes = match raw.dtype {
        Dtype::F32 => {
            raw.bytes.as_chunks::<4>().0.iter().flat_map(|&[_, _, x, y]| [0, 0, x, y]).collect()
        }
        Dtype::BF16 => {
            raw.bytes.as_chunks::<2>().0.iter().flat_map(|&[x, y]| [0, 0, x, y]).collect()
        }
        Dtype::F16 => {
            let halves = raw.bytes.as_chunks::<2>().0.iter();
            halves.flat_map(|&half| f16::from_le_bytes(half).to_f32().to_le_bytes()).collect()
        }
        other => panic!("{other:?}"),
    };
    raw.dtype = Dtype::F32;
}

#[test]
fn tensors_without_an_update_and_files_are_copied() {
    for name in ["qwen3_moe", "gpt_oss_mxfp4"] {
        let (checkpoint, model) = (Checkpoint::open(tiny(name)).unwrap(), load(tiny(name)));
        let all = random_adapters(&model, 0.17, 1.5, &Device::flex());
        let is_meant = |site: &Site| site.as_str() == "model.layers.1.self_attn.v_proj";
        let some = all.loras().filter(|(site, _)| is_meant(site));
        let some: Adapters = some.map(|(site, lora)| (site.clone(), lora.clone())).collect();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("fused");
        let fused = write_fused(&checkpoint, &some, &out, &mut |_| ()).unwrap();
        assert_eq!((fused.updated, fused.dequantised), (1, false));
        let (before, after) = (tensors(&tiny(name)), tensors(&out));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (tensor, raw) in before {
            let is_same = raw.bytes == after[&tensor].bytes;
            assert_eq!(is_same, tensor != "model.layers.1.self_attn.v_proj.weight", "{tensor}");
        }
        for file in ["config.json", "generation_config.json"] {
            assert_eq!(fs::read(tiny(name).join(file)).ok(), fs::read(out.join(file)).ok());
        }
    }
}

#[test]
fn leftovers_are_copied() {
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let buffer = Raw { dtype: Dtype::F32, shape: vec![8], bytes: (0..32).collect() };
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        tensors.insert(name.to_owned(), buffer.clone());
    });
    let (checkpoint, model) = (Checkpoint::open(copy.path()).unwrap(), load(copy.path()));
    assert_eq!(checkpoint.leftovers().len(), 1);
    let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fused");
    write_fused(&checkpoint, &adapters, &out, &mut |_| ()).unwrap();
    assert!(tensors(&out)[name].bytes == buffer.bytes);
}

#[test]
fn shards_stay_shards() {
    let copy = Copy::of("qwen3_moe");
    let all = read(&copy.file("model.safetensors"));
    fs::remove_file(copy.file("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (shard, part) in ["model-00001-of-00002", "model-00002-of-00002"].into_iter().enumerate() {
        let file = format!("{part}.safetensors");
        let of = all.iter().filter(|(name, _)| usize::from(name.contains("layers.1")) == shard);
        let of: BTreeMap<String, Raw> = of.map(|(name, raw)| (name.clone(), raw.clone())).collect();
        fs::write(copy.file(&file), crate::edit::encode(&of)).unwrap();
        map.extend(of.into_keys().map(|name| (name, file.clone().into())));
    }
    let index = serde_json::json!({ "metadata": { "total_size": 759_296 }, "weight_map": map });
    fs::write(copy.file("model.safetensors.index.json"), index.to_string()).unwrap();
    let (checkpoint, model) = (Checkpoint::open(copy.path()).unwrap(), load(copy.path()));
    let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fused");
    write_fused(&checkpoint, &adapters, &out, &mut |_| ()).unwrap();
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("model.safetensors.index.json")).unwrap())
            .unwrap();
    assert_eq!(written, index);
    let expected = adapted(&model, &adapters);
    assert!(error(&logits(&load(&out), &rows()), &expected) < 1e-5);
    // A second run replaces it.
    write_fused(&checkpoint, &adapters, &out, &mut |_| ()).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let (checkpoint, model) =
        (Checkpoint::open(tiny("qwen3_moe")).unwrap(), load(tiny("qwen3_moe")));
    let all = random_adapters(&model, 0.17, 1.5, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fused");
    let q = all.at("model.layers.0.self_attn.q_proj").unwrap().lora().clone();
    let one = |site: &str, lora: Lora| Adapters::from_iter([(Site::new(site), lora)]);
    let fused = |adapters: &Adapters| write_fused(&checkpoint, adapters, &out, &mut |_| ());
    let stranger = fused(&one("model.layers.9.self_attn.q_proj", q.clone()));
    assert!(matches!(stranger, Err(ModelError::NoSuchSite { .. })), "{stranger:?}");
    let other = fused(&one("model.layers.0.mlp.gate", q.clone()));
    assert!(matches!(other, Err(ModelError::SiteShape { .. })), "{other:?}");
    let huge = fused(&one(
        "model.layers.0.self_attn.q_proj",
        Lora { a: q.a.clone().mul_scalar(1e3), scale: f32::MAX, ..q },
    ));
    let Err(ModelError::FusedNotFinite { tensor, dtype: "F32", .. }) = huge else {
        panic!("{huge:?}")
    };
    assert_eq!(tensor, "model.layers.0.self_attn.q_proj.weight");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::create_dir(&out).unwrap();
    fs::write(
        out.join("model.safetensors"),
        fs::read(tiny("qwen3_moe").join("model.safetensors")).unwrap(),
    )
    .unwrap();
    assert!(matches!(fused(&all), Err(ModelError::Io { .. })), "another model is not replaced");
}

#[test]
fn a_plain_proxy_is_fused_and_one_with_its_own_router_is_refused() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (rule, is_plain) in [(RouterRule::DropRows, true), (RouterRule::Mask, false)] {
        let plan = plan(&checkpoint, rule, |layer| keep(layer.n_experts, &[0, 2, 5]));
        let [proxy, out] =
            ["proxy", "fused"].map(|name| folder.path().join(format!("{name}-{rule}")));
        write_proxy(&checkpoint, &plan, &proxy, &mut copies).unwrap();
        let model = load(&proxy);
        let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
        let fused = write_fused(&Checkpoint::open(&proxy).unwrap(), &adapters, &out, &mut |_| ());
        if is_plain {
            fused.unwrap();
            assert!(error(&logits(&load(&out), &rows()), &adapted(&model, &adapters)) < 1e-5);
            assert!(
                Checkpoint::open(&out).unwrap().origin().is_none(),
                "the plan does not give it"
            );
        } else {
            assert!(matches!(fused, Err(ModelError::OwnRouter { .. })), "{fused:?}");
            assert!(!out.exists());
        }
    }
}

#[test]
fn a_tensor_counts_as_updated_if_a_value_changed() {
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        let v = tensors.get_mut("model.layers.0.self_attn.v_proj.weight").unwrap();
        // A weight of 1 in bf16, whose neighbours are 2^-7 above and 2^-8 below.
        let n = v.shape.iter().product();
        (v.bytes, v.dtype) = ([0x80, 0x3f].repeat(n), Dtype::BF16);
    });
    let (checkpoint, model) = (Checkpoint::open(copy.path()).unwrap(), load(copy.path()));
    let all = random_adapters(&model, 0.17, 1.5, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fused");
    let fuse = |scale: f32| {
        let v = all.at("model.layers.0.self_attn.v_proj").unwrap().lora().clone();
        let q = all.at("model.layers.0.self_attn.q_proj").unwrap().lora().clone();
        let adapters = Adapters::from_iter([
            (Site::new("model.layers.0.self_attn.v_proj"), Lora { scale, ..v }),
            (
                Site::new("model.layers.0.self_attn.q_proj"),
                Lora { b: q.b.clone().mul_scalar(0.0), ..q },
            ),
        ]);
        let fused = write_fused(&checkpoint, &adapters, &out, &mut |_| ()).unwrap();
        let (before, after) = (tensors(copy.path()), tensors(&out));
        let n = before.iter().filter(|(name, raw)| after[*name].bytes != raw.bytes).count();
        assert_eq!(fused.updated, n);
        fused
    };
    // The update of a zero B is none, and one that rounding loses is none.
    let lost = fuse(1e-6);
    assert_eq!((lost.updated, lost.rounding.changed), (0, 0));
    assert!((lost.rounding.relative() - 1.0).abs() < 1e-6, "{lost:?}");
    assert_eq!(lost.worst.unwrap().0, "model.layers.0.self_attn.v_proj.weight");
    assert_eq!(fuse(1.5).updated, 1);
}

#[test]
fn side_files_have_a_limit() {
    let copy = Copy::of("qwen3_moe");
    let large = fs::File::create(copy.file("vocab.json")).unwrap();
    large.set_len((128 << 20) + 1).unwrap();
    let (checkpoint, model) = (Checkpoint::open(copy.path()).unwrap(), load(copy.path()));
    let adapters = random_adapters(&model, 0.17, 1.5, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fused");
    let Err(ModelError::Io { path, source }) =
        write_fused(&checkpoint, &adapters, &out, &mut |_| ())
    else {
        panic!("it is copied")
    };
    assert_eq!((path, source.kind()), (copy.file("vocab.json"), ErrorKind::FileTooLarge));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

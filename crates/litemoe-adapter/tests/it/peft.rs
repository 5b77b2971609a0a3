use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_adapter::{AdapterError, AdapterRecord, LoadedAdapter, peft, save};
use litemoe_core::{Adapters, LinearRole, LinearSite, Lora, MoeModel, Site};
use litemoe_files::StagedDir;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{floats, golden, model, random_adapters, same_bits};

fn read(dir: &Path, sites: &[LinearSite]) -> Result<peft::PeftAdapter, AdapterError> {
    peft::read(dir, sites, &Device::flex())
}

/// A writable copy of a golden adapter.
pub(crate) fn copy(name: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let target = dir.path().join(name);
    fs::create_dir(&target).unwrap();
    for file in [peft::CONFIG_FILE, peft::MODEL_FILE] {
        fs::copy(golden(name).join(file), target.join(file)).unwrap();
    }
    (dir, target)
}

/// Sets a key of an adapter's configuration.
pub(crate) fn set(dir: &Path, key: &str, value: Value) {
    let path = dir.join(peft::CONFIG_FILE);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn patterns_and_half_precision_are_read() {
    let model = model();
    let made = read(&golden("patterned"), model.linear_sites()).unwrap();
    let shape = |layer: usize, leaf: &str| {
        let lora =
            made.adapters.at(&format!("model.layers.{layer}.self_attn.{leaf}")).unwrap().lora();
        (lora.rank(), lora.scale)
    };
    assert_eq!(made.adapters.len(), 12);
    assert_eq!(shape(0, "q_proj"), (4, 3.0));
    assert_eq!(shape(1, "q_proj"), (2, (6.0 / 2f64.sqrt()) as f32));
    assert_eq!(shape(2, "v_proj"), (3, (9.0 / 3f64.sqrt()) as f32));
    assert_eq!(shape(1, "o_proj"), (4, 2.5));
    assert!(made.config.rslora);
}

#[test]
fn every_way_to_name_the_targets_reads_the_same() {
    let (model, (_keep, dir)) = (model(), copy("plain"));
    let expected = read(&dir, model.linear_sites()).unwrap().adapters;
    let ways = [
        json!(["self_attn.q_proj", "k_proj", "v_proj", "o_proj"]),
        json!(r"model\.layers\.\d+\.self_attn\.(q|k|v|o)_proj"),
        json!("all-linear"),
    ];
    for targets in ways {
        set(&dir, "target_modules", targets);
        assert!(same_bits(&read(&dir, model.linear_sites()).unwrap().adapters, &expected));
    }
}

#[test]
fn half_precision_is_widened_exactly() {
    let (model, (_keep, dir)) = (model(), copy("plain"));
    let reference = read(&golden("plain"), model.linear_sites()).unwrap().adapters;
    for dtype in [safetensors::Dtype::BF16, safetensors::Dtype::F16] {
        rewrite(&dir, dtype);
        let read = read(&dir, model.linear_sites()).unwrap().adapters;
        for (site, lora) in read.loras() {
            let (ours, full) = (
                floats(lora.a.clone()),
                floats(reference.at(site.as_str()).unwrap().lora().a.clone()),
            );
            assert_ne!(ours, full);
            assert!(ours.iter().zip(&full).all(|(x, y)| (x - y).abs() <= y.abs() / 128.0 + 1e-6));
        }
    }
}

/// Rewrites the tensors of the golden `plain` in `dir` in half precision.
fn rewrite(dir: &Path, dtype: safetensors::Dtype) {
    let bytes = fs::read(golden("plain").join(peft::MODEL_FILE)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let narrow = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let data = TensorData::from_bytes_vec(
            view.data().to_vec(),
            view.shape().to_vec(),
            burn::tensor::DType::F32,
        );
        let narrow = match dtype {
            safetensors::Dtype::BF16 => data.convert_dtype(burn::tensor::DType::BF16),
            _ => data.convert_dtype(burn::tensor::DType::F16),
        };
        (name, view.shape().to_vec(), narrow.bytes().to_vec())
    };
    let narrowed: Vec<_> = file.tensors().into_iter().map(narrow).collect();
    let views = narrowed.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(dir.join(peft::MODEL_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn the_configuration_has_every_key_that_peft_writes_and_no_other() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let target = dir.path().join("adapter");
    save(&target, &random_adapters(&model, 0), model.linear_sites(), &Default::default(), None)
        .unwrap();
    let keys = |dir: &Path| -> Vec<String> {
        let config: Value =
            serde_json::from_slice(&fs::read(dir.join(peft::CONFIG_FILE)).unwrap()).unwrap();
        let mut keys: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&target), keys(&golden("plain")));
    let config: Value =
        serde_json::from_slice(&fs::read(target.join(peft::CONFIG_FILE)).unwrap()).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(8), &json!(16)));
    assert_eq!(config["target_modules"], json!(["k_proj", "o_proj", "q_proj", "v_proj"]));
    assert_eq!(config["rank_pattern"], json!({}));
}

#[test]
fn an_adapter_on_some_layers_names_them() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let all = random_adapters(&model, 0);
    let some: Adapters =
        all.loras().take(5).map(|(site, lora)| (site.clone(), lora.clone())).collect();
    let target = dir.path().join("adapter");
    save(&target, &some, model.linear_sites(), &Default::default(), None).unwrap();
    assert!(same_bits(&read(&target, model.linear_sites()).unwrap().adapters, &some));
}

/// A writer that fails after n bytes, for every n, leaves the target absent or unchanged, and no other files.
#[test]
fn a_failing_disk_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let (there, absent) = (dir.path().join("there"), dir.path().join("absent"));
    let sites = [LinearSite {
        site: Site::new("q_proj"),
        role: LinearRole::Attention,
        d_in: 2,
        d_out: 1,
        stack: None,
        parameter: None,
    }];
    let adapters = one_site(&sites[0], 1, 2.0, &[0.5, 0.25, 0.125]);
    save(&there, &adapters, &sites, &Default::default(), None).unwrap();
    let size = |file| fs::metadata(there.join(file)).unwrap().len();
    let size = size(peft::CONFIG_FILE) + size(peft::MODEL_FILE);
    for room in 0..size {
        let target = if room % 2 == 0 { &there } else { &absent };
        let write = || {
            let mut staged = StagedDir::limited(target, room)?;
            peft::write(&mut staged, &adapters.scaled(2.0), &sites, &Default::default())?;
            staged.commit()
        };
        assert!(write().is_err(), "{room} of {size} bytes were enough");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }
    assert!(same_bits(&read(&there, &sites).unwrap().adapters, &adapters));
}

fn one_site(site: &LinearSite, rank: usize, scale: f32, values: &[f32]) -> Adapters {
    let (a, b) = values.split_at(site.d_in * rank);
    let matrix = |values: &[f32], shape: [usize; 2]| {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    };
    let (a, b) = (matrix(a, [site.d_in, rank]), matrix(b, [rank, site.d_out]));
    [(site.site.clone(), Lora { a, b, scale })].into_iter().collect()
}

fn any_adapters() -> impl Strategy<Value = (Vec<LinearSite>, Adapters)> {
    let site = (1usize..5, 1usize..5, 1usize..4, 0.01f32..30.0);
    prop::collection::vec(site, 1..5).prop_flat_map(|shapes| {
        let len = shapes.iter().map(|&(d_in, d_out, rank, _)| (d_in + d_out) * rank).sum::<usize>();
        (Just(shapes), prop::collection::vec(-1e3f32..1e3, len)).prop_map(|(shapes, values)| {
            let (mut sites, mut adapters, mut rest) =
                (Vec::new(), Adapters::default(), &values[..]);
            for (index, (d_in, d_out, rank, scale)) in shapes.into_iter().enumerate() {
                let site = LinearSite {
                    site: Site::new(format!("layers.{index}.q_proj")),
                    role: LinearRole::Attention,
                    d_in,
                    d_out,
                    stack: None,
                    parameter: None,
                };
                let (mine, left) = rest.split_at((d_in + d_out) * rank);
                for (site, lora) in one_site(&site, rank, scale, mine).loras() {
                    adapters.insert(site.clone(), lora.clone());
                }
                sites.push(site);
                rest = left;
            }
            (sites, adapters)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_bit_for_bit((sites, adapters) in any_adapters(), rslora: bool, routed: bool) {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("adapter");
        let config = peft::PeftConfig {
            base_model: Some("base".to_owned()),
            task_type: Some("CAUSAL_LM".to_owned()),
            rslora,
            routed,
        };
        save(&target, &adapters, &sites, &config, None).unwrap();
        let read = read(&target, &sites).unwrap();
        prop_assert!(same_bits(&read.adapters, &adapters));
        prop_assert_eq!(read.config, config);
    }
}

#[test]
fn a_written_adapter_keeps_its_record() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let target = dir.path().join("adapter");
    let (adapters, record) = (random_adapters(&model, 0), crate::mounting::record());
    save(&target, &adapters, model.linear_sites(), &Default::default(), Some(&record)).unwrap();
    let loaded: LoadedAdapter = litemoe_adapter::load(&target, &model, &record.foundation).unwrap();
    let peft_sha256 = loaded.record.as_ref().unwrap().peft_sha256.clone();
    assert!(peft_sha256.is_some());
    assert_eq!(loaded.record, Some(AdapterRecord { peft_sha256, ..record }));
    assert!(same_bits(&loaded.mounted.adapters, &adapters));
}

//! A GPU computes the same as the CPU: the tiny models' logits, expert scores and gradients of every LoRA matrix,
//! within 1e-4 of each tensor's largest value, none of them zero. Any wgpu device works, including a software one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use litemoe_adapter::{MicroBatch, gradients};
use litemoe_core::{Adapters, Criterion, Fingerprint, Input, LanguageModel, LinearSite};
use litemoe_core::{Lora, MoeModel, Pass, Sequence};
use litemoe_model::{Checkpoint, Model};
use litemoe_score::{About, ScoreOptions, score};

const TOLERANCE: f64 = 1e-4;
/// Checkpoints of the fixtures that together cover every model component.
const TINY: [&str; 15] = [
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
const CHECKED: [Criterion; 4] =
    [Criterion::Litemoe, Criterion::Frequency, Criterion::Task, Criterion::Reap];

/// Tensors on the host, by name.
type Results = BTreeMap<String, Vec<f64>>;

fn tiny(name: &str) -> PathBuf {
    litemoe_fixtures::tiny_dir().with_file_name(name)
}

/// Rows of different lengths, with ids below every checkpoint's vocabulary size.
fn rows() -> Vec<Vec<u32>> {
    let row = |len: u32| (0..len).map(|i| (7 + 31 * i + len) % 250).collect();
    [24, 9, 17, 3].map(row).into()
}

/// Runs `compute` on both devices and compares the results.
fn assert_same(name: &str, compute: impl Fn(&Model, &Device) -> Results) {
    let on = |device: &Device| {
        let checkpoint = Checkpoint::open(tiny(name)).expect("a checkpoint");
        compute(&Model::load(&checkpoint, device).expect("a model"), device)
    };
    let (gpu, cpu) = (on(&Device::wgpu(DeviceKind::DefaultDevice)), on(&Device::flex()));
    assert!(!cpu.is_empty());
    assert_eq!(gpu.keys().collect::<Vec<_>>(), cpu.keys().collect::<Vec<_>>());
    for (what, cpu) in cpu {
        compare(&format!("{name}: {what}"), &gpu[&what], &cpu);
    }
}

fn compare(what: &str, gpu: &[f64], cpu: &[f64]) {
    assert_eq!(gpu.len(), cpu.len(), "{what}");
    let largest = cpu.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{what} is zero");
    for (at, (gpu, cpu)) in gpu.iter().zip(cpu).enumerate() {
        let near = (gpu - cpu).abs() <= TOLERANCE * largest;
        assert!(near, "{what}[{at}]: {gpu} on the GPU, {cpu} on the CPU, {largest} at most");
    }
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let values = tensor.into_data().try_into_vec::<f32>().expect("f32 values");
    values.into_iter().map(f64::from).collect()
}

/// A LoRA at every site, with A and B nonzero and the same on every device.
fn adapters(sites: &[LinearSite], device: &Device) -> Adapters {
    let mut state = 1_u32;
    let mut matrix = |[rows, columns]: [usize; 2]| {
        let values = (0..rows * columns).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.1 * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        });
        let values: Vec<f32> = values.collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), device)
    };
    let lora = |linear: &LinearSite| {
        let (a, b) = (matrix([linear.d_in, 4]), matrix([4, linear.d_out]));
        (linear.site.clone(), Lora { a, b, scale: 2.0 })
    };
    sites.iter().map(lora).collect()
}

#[test]
fn logits_are_the_cpus() {
    for name in TINY {
        assert_same(name, |model, device| {
            let adapters = adapters(model.linear_sites(), device);
            let encoder_rows = model.has_encoder().then(rows);
            let input = Input { rows: rows(), encoder_rows };
            let logits = |mut pass| floats(model.logits(&input, &mut pass));
            BTreeMap::from([
                ("logits".to_owned(), logits(Pass::plain())),
                ("adapted logits".to_owned(), logits(Pass::adapted(&adapters))),
            ])
        });
    }
}

#[test]
fn scores_are_the_cpus() {
    let about = About {
        fingerprint: Fingerprint::new("tiny"),
        model: "tiny".into(),
        family: "qwen3_moe".into(),
        program: "test".into(),
    };
    for name in TINY {
        assert_same(name, |model, _| {
            let scored = score(model, &sequences(model), &ScoreOptions::default(), &about, |_| ());
            let scores = scored.expect("scores").scores;
            let of = |layer, criterion| {
                let values = scores.of(layer, criterion).expect("a value per expert");
                (format!("{criterion} of layer {layer}"), values)
            };
            let layers = model.moe_layers().iter().map(|layer| layer.id);
            layers.flat_map(|layer| CHECKED.map(|criterion| of(layer, criterion))).collect()
        });
    }
}

/// The rows with the loss on their second halves; an encoder gets them too.
fn sequences(model: &Model) -> Vec<Sequence> {
    let sequence = |tokens: Vec<u32>| Sequence {
        completion: (0..tokens.len()).map(|token| 2 * token >= tokens.len()).collect(),
        encoder: model.has_encoder().then(|| tokens.clone()),
        tokens,
    };
    rows().into_iter().map(sequence).collect()
}

#[test]
fn gradients_are_the_cpus() {
    for (name, recompute) in TINY.into_iter().flat_map(|name| [(name, false), (name, true)]) {
        assert_same(name, |model, device| {
            let adapters = adapters(model.linear_sites(), device);
            let micro = MicroBatch { rows: 3, threads: 1, recompute };
            let found = gradients(model, &adapters, &sequences(model), micro).expect("gradients");
            assert_eq!(found.by_site.len(), model.linear_sites().len());
            let mut results = BTreeMap::from([("loss".to_owned(), vec![found.loss])]);
            for (site, gradient) in found.by_site {
                for (which, gradient) in [("A", gradient.a), ("B", gradient.b)] {
                    let values = floats(gradient);
                    // Zero only for an expert without tokens, and for the same experts on both devices.
                    if !site.as_str().contains("experts") || values.iter().any(|&it| it != 0.0) {
                        results.insert(format!("{site}, {which}"), values);
                    }
                }
            }
            results
        });
    }
}

#[test]
fn the_binary_computes_on_the_device_it_is_told_to() {
    let logits = |device: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_litemoe"))
            .arg("logits")
            .arg(tiny("qwen3_moe"))
            .args(["--ids", "5,17,30,2,9", "--device", device, "--json"])
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let values = json["logits"].as_array().expect("rows").iter();
        let values = values.flat_map(|row| row.as_array().expect("a row"));
        values.map(|value| value.as_f64().expect("a number")).collect::<Vec<_>>()
    };
    compare("logits", &logits("gpu"), &logits("cpu"));
}

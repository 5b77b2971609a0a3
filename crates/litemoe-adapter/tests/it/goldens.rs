use burn::tensor::{Device, Tensor};
use litemoe_adapter::{
    MicroBatch, StepReport, TuneData, TuneObserver, TuneOptions, gradients, peft, save, tune,
};
use litemoe_core::{Input, LanguageModel, MoeModel, Pass, Site, sha256_hex};
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::fixture::{distance, farthest, floats, golden, model, rows};

const IDS: [u32; 12] = [5, 17, 90, 3, 44, 44, 61, 8, 120, 33, 2, 71];

/// A tensor of a golden file, row-major.
pub(crate) fn reference(file: &str, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(golden(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = file.tensor(name).unwrap().data().chunks_exact(4);
    values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Token ids of the golden files.
pub(crate) fn input() -> Input {
    Input::decoder(vec![IDS.to_vec()])
}

fn logits(adapter: Option<&str>) -> Vec<f32> {
    let model = model();
    let read = |name| peft::read(&golden(name), model.linear_sites(), &model.device()).unwrap();
    let adapters = adapter.map(|name| read(name).adapters);
    floats(model.logits(&input(), &mut Pass::plain().with_adapters(adapters.as_ref())))
}

#[test]
fn the_goldens_are_those_of_the_recipe() {
    let sums = std::fs::read_to_string(golden("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 74);
    for line in sums.lines() {
        let (sum, file) = line.split_once("  ").unwrap();
        assert_eq!(sha256_hex(&std::fs::read(golden(file)).unwrap()), sum, "{file}");
    }
}

#[test]
fn adapters_that_peft_wrote_give_its_logits() {
    let base = reference("logits.safetensors", "base");
    assert!(distance(&logits(None), &base) < 2e-4);
    for name in ["plain", "patterned"] {
        let expected = reference("logits.safetensors", name);
        assert!(farthest(&expected, &base) > 100.0 * 2e-4);
        let error = distance(&logits(Some(name)), &expected);
        assert!(error < 2e-4, "{name}: {error}");
    }
}

/// This test writes `ours/` if run with `WRITE_GOLDENS` set; `make.py` computes PEFT's logits for it.
#[test]
fn peft_gives_our_logits_of_adapters_that_we_wrote() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let made = peft::read(&golden("patterned"), model.linear_sites(), &Device::flex()).unwrap();
    let target = match std::env::var_os("WRITE_GOLDENS") {
        Some(_) => golden("ours"),
        None => dir.path().join("ours"),
    };
    save(&target, &made.adapters.scaled(0.75), model.linear_sites(), &made.config, None).unwrap();
    for file in [peft::CONFIG_FILE, peft::MODEL_FILE] {
        let written = std::fs::read(target.join(file)).unwrap();
        assert!(written == std::fs::read(golden("ours").join(file)).unwrap(), "{file} differs");
    }
    let expected = reference("logits_ours.safetensors", "ours");
    let error = distance(&logits(Some("ours")), &expected);
    assert!(error < 2e-4, "{error}");
    assert!(farthest(&expected, &reference("logits.safetensors", "base")) > 100.0 * 2e-4);
}

/// PEFT wrote `stacked/`. This test writes `ours_experts/`, the same adapter, as above.
#[test]
fn experts_go_both_ways_with_peft() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let made = peft::read(&golden("stacked"), model.linear_sites(), &Device::flex()).unwrap();
    let target = match std::env::var_os("WRITE_GOLDENS") {
        Some(_) => golden("ours_experts"),
        None => dir.path().join("ours_experts"),
    };
    save(&target, &made.adapters, model.linear_sites(), &made.config, None).unwrap();
    for file in [peft::CONFIG_FILE, peft::MODEL_FILE] {
        let written = std::fs::read(target.join(file)).unwrap();
        assert!(written == std::fs::read(golden("ours_experts").join(file)).unwrap(), "{file}");
    }
    let base = reference("logits.safetensors", "base");
    for name in ["stacked", "ours_experts"] {
        let expected = reference(&format!("logits_{name}.safetensors"), name);
        assert!(farthest(&expected, &base) > 100.0 * 2e-4);
        let error = distance(&logits(Some(name)), &expected);
        assert!(error < 2e-4, "{name}: {error}");
    }
}

/// PEFT's gradients for stacks: those of A are sums over gate and up, which share it.
#[test]
fn first_gradients_of_experts_are_pefts() {
    let (model, n_experts, rank) = (model(), 4, 2);
    let read = peft::read(&golden("stacked"), model.linear_sites(), &Device::flex()).unwrap();
    let micro = MicroBatch { rows: 8, threads: 2, recompute: true };
    let found = gradients(&model, &read.adapters, &rows()[..8], micro).unwrap();
    let of = |site: String| &found.by_site[&Site::new(site)];
    for block in [0, 2] {
        let path = format!("model.layers.{block}.mlp.experts");
        let expected = |inner: &str, which: &str| {
            let name = format!("base_model.model.{path}{inner}.lora_{which}.weight");
            reference("gradients_stacked.safetensors", &name)
        };
        let experts = || 0..n_experts;
        let halves =
            |expert| ["gate_proj", "up_proj"].map(|half| of(format!("{path}.{expert}.{half}")));
        let down = |expert| of(format!("{path}.{expert}.down_proj"));
        // [rank, d_in] and [d_out, rank] of each expert.
        let of_a = experts().flat_map(|expert| {
            let [gate, up] = halves(expert);
            floats((gate.a.clone() + up.a.clone()).transpose())
        });
        let of_b = experts().map(|expert| {
            let [gate, up] = halves(expert);
            floats(Tensor::cat(vec![gate.b.clone(), up.b.clone()], 1).transpose())
        });
        let of_down_a = experts().flat_map(|expert| floats(down(expert).a.clone().transpose()));
        let of_down_b = experts().map(|expert| floats(down(expert).b.clone().transpose()));
        // Expert fastest.
        let woven = |columns: Vec<Vec<f32>>| -> Vec<f32> {
            let at = |place: usize| columns.iter().map(move |column| column[place]);
            (0..32 * rank).flat_map(at).collect()
        };
        for (ours, expected) in [
            (of_a.collect::<Vec<f32>>(), expected(".base_layer", "A")),
            (woven(of_b.collect()), expected(".base_layer", "B")),
            (of_down_a.collect(), expected("", "A")),
            (woven(of_down_b.collect()), expected("", "B")),
        ] {
            let largest = expected.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
            let error = farthest(&ours, &expected) / largest;
            assert!(largest > 0.0 && error < 1e-3, "block {block}: {error}");
        }
    }
}

#[test]
fn first_gradients_are_pefts() {
    let model = model();
    let adapters =
        peft::read(&golden("plain"), model.linear_sites(), &Device::flex()).unwrap().adapters;
    for recompute in [false, true] {
        let found = gradients(
            &model,
            &adapters,
            &rows()[..8],
            MicroBatch { rows: 8, threads: 2, recompute },
        )
        .unwrap();
        assert_eq!(found.by_site.len(), adapters.len());
        for (site, gradient) in found.by_site {
            for (which, ours) in [("A", gradient.a), ("B", gradient.b)] {
                let name = format!("base_model.model.{site}.lora_{which}.weight");
                let expected = reference("gradients.safetensors", &name);
                let largest = expected.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                let error = farthest(&floats(ours.transpose()), &expected) / largest;
                assert!(largest > 0.0 && error < 1e-3, "{name}: {error}");
            }
        }
    }
}

struct Losses(Vec<f64>);

impl TuneObserver for Losses {
    fn stepped(&mut self, report: &StepReport) {
        self.0.push(report.loss);
    }
}

#[test]
fn twenty_steps_have_pefts_losses() {
    let model = model();
    let adapters =
        peft::read(&golden("plain"), model.linear_sites(), &Device::flex()).unwrap().adapters;
    let expected: Vec<f64> =
        serde_json::from_slice(&std::fs::read(golden("losses.json")).unwrap()).unwrap();
    let options = TuneOptions {
        steps: 20,
        batch: 8,
        micro_batch: 3,
        warmup: 4,
        shuffle: false,
        router_noise: 0.0,
        ..TuneOptions::default()
    };
    let mut losses = Losses(Vec::new());
    let data = TuneData { train: &rows(), validation: &[] };
    tune(&model, &adapters, data, &options, None, &mut losses).unwrap();
    for (step, (ours, expected)) in losses.0.iter().zip(&expected).enumerate() {
        assert!((ours / expected - 1.0).abs() < 1e-3, "step {step}: {ours}, not {expected}");
    }
    assert_eq!(losses.0.len(), expected.len());
}

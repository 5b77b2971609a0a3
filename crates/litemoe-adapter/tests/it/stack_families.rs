//! LoRAs on experts that PEFT reads only as stacks, against PEFT's definition of the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use litemoe_adapter::{EXPERTS, LoraOptions, init_lora, peft, save};
use litemoe_core::{Adapters, ExpertPart, LanguageModel, LinearSite, Lora, MoeModel, Pass, Site};
use litemoe_model::{Checkpoint, Model};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::experts::{random_experts, read, targets, tensors};
use crate::fixture::{distance, farthest, floats, golden, same_bits, stirred};
use crate::goldens::{input, reference};
use crate::peft::set;

/// Layout of a family's parameters in transformers: their module in a block, whether a matrix is `[in, out]`, whether
/// PEFT knows that, and whether gate and up are interleaved.
struct Held {
    family: &'static str,
    module: &'static str,
    is_transposed: bool,
    is_declared: bool,
    takes_turns: bool,
}

const fn rows(family: &'static str, module: &'static str) -> Held {
    Held { family, module, is_transposed: false, is_declared: false, takes_turns: false }
}

const GPT_OSS: Held = Held {
    is_transposed: true,
    is_declared: true,
    takes_turns: true,
    ..rows("gpt_oss", "mlp.experts")
};
const LLAMA4: Held = Held { is_transposed: true, ..rows("llama4_text", "feed_forward.experts") };

const FAMILIES: [Held; 5] = [
    rows("granitemoe", "block_sparse_moe.experts"),
    rows("qwen2_moe", "mlp.experts"),
    rows("phimoe", "mlp.experts"),
    GPT_OSS,
    LLAMA4,
];

fn tiny(family: &str) -> Model {
    let dir = litemoe_fixtures::tiny_dir().with_file_name(family);
    Model::load(&Checkpoint::open(dir).unwrap(), &Device::flex()).unwrap()
}

fn saved(model: &Model, adapters: &Adapters) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let target = dir.path().join("adapter");
    save(&target, adapters, model.linear_sites(), &Default::default(), None).unwrap();
    (dir, target)
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(peft::CONFIG_FILE)).unwrap()).unwrap()
}

/// A configuration value for a parameter.
fn of_parameter(config: &Value, default: &str, pattern: &str, parameter: &str) -> f64 {
    config[pattern].get(parameter).unwrap_or(&config[default]).as_f64().unwrap()
}

/// PEFT 0.21's weight delta at entry `(out, in)` of an expert's part, as in `ParamWrapper.get_delta_weight`:
/// `einsum("o r e, e r i -> e i o")` if the module declares the transposition, else `"… -> e o i"`.
fn peft_delta(
    held: &Held,
    files: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    config: &Value,
    site: &LinearSite,
    n_experts: usize,
) -> Vec<f32> {
    let (expert, part) = site.role.expert().unwrap();
    let path = format!("model.layers.{}.{}", expert.layer.block, held.module);
    let (leaf, inner) = match part {
        ExpertPart::Down => ("down_proj", ""),
        _ => ("gate_up_proj", ".base_layer"),
    };
    let of = |which| &files[&format!("base_model.model.{path}{inner}.lora_{which}.weight")];
    let ((shape_a, a), (shape_b, b)) = (of("A"), of("B"));
    let rank = shape_a[0] / n_experts;
    let parameter = format!("{path}.{leaf}");
    assert_eq!(of_parameter(config, "r", "rank_pattern", &parameter), rank as f64);
    let alpha = of_parameter(config, "lora_alpha", "alpha_pattern", &parameter);
    let e = expert.expert;
    let product = |o: usize, i: usize| -> f32 {
        let term =
            |r: usize| b[o * shape_b[1] + r * n_experts + e] * a[(e * rank + r) * shape_a[1] + i];
        (0..rank).map(term).sum::<f32>() * (alpha / rank as f64) as f32
    };
    let d_expert = if part == ExpertPart::Down { site.d_in } else { site.d_out };
    let output = |neuron: usize| match part {
        ExpertPart::Down => neuron,
        ExpertPart::Gate if held.takes_turns => 2 * neuron,
        ExpertPart::Up if held.takes_turns => 2 * neuron + 1,
        ExpertPart::Gate => neuron,
        ExpertPart::Up => d_expert + neuron,
    };
    // The parameter's first and second index of a matrix entry.
    let entry = |(neuron, input): (usize, usize)| {
        let [first, second] = match held.is_transposed {
            true => [input, output(neuron)],
            false => [output(neuron), input],
        };
        if held.is_declared { product(second, first) } else { product(first, second) }
    };
    let neurons = (0..site.d_out).flat_map(|neuron| (0..site.d_in).map(move |i| (neuron, i)));
    neurons.map(entry).collect()
}

#[test]
fn files_mean_to_peft_what_the_adapter_is() {
    for held in FAMILIES {
        let model = tiny(held.family);
        let adapters = random_experts(&model, 11);
        let (_keep, dir) = saved(&model, &adapters);
        let (files, config) = (tensors(&dir), config(&dir));
        let n_experts = model.moe_layers()[0].n_experts;
        assert_eq!(files.len(), model.moe_layers().len() * 4, "{}", held.family);
        for site in model.linear_sites().iter().filter(|site| site.role.is_expert()) {
            let lora = adapters.at(site.site.as_str()).unwrap().lora();
            let delta = lora.a.clone().matmul(lora.b.clone()).mul_scalar(lora.scale);
            let found = peft_delta(&held, &files, &config, site, n_experts);
            let error = farthest(&found, &floats(delta.transpose()));
            assert!(error < 1e-6, "{}: {}: {error}", held.family, site.site);
        }
        assert!(same_bits(&read(&model, &dir).unwrap(), &adapters), "{}", held.family);
    }
}

#[test]
fn targets_name_stacks_and_modules_apart() {
    let model = tiny("granitemoe");
    let (_keep, dir) = saved(&model, &stirred(&model, &targets([EXPERTS, "q_proj"]), 0));
    let config = config(&dir);
    assert_eq!(config["target_modules"], json!(["q_proj"]));
    let parameters = config["target_parameters"].as_array().unwrap();
    assert_eq!(parameters.len(), 2 * 3);
    assert_eq!(parameters[1], "model.layers.0.block_sparse_moe.experts.gate_up_proj");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(8), &json!(16)));
    assert_eq!(config["rank_pattern"].as_object().unwrap().len(), 3);
    let (_keep, dir) = saved(&model, &random_experts(&model, 0));
    assert_eq!(self::config(&dir)["target_modules"], json!([]), "none, and not PEFT's choice");
}

/// One A for gate and up, as in PEFT, takes half the space.
#[test]
fn a_shared_matrix_is_written_once() {
    let model = tiny("gpt_oss");
    let all = random_experts(&model, 12);
    let share = |(site, lora): (&Site, &Lora)| {
        let gate = site.as_str().replace("up_proj", "gate_proj");
        (site.clone(), Lora { a: all.at(&gate).unwrap().lora().a.clone(), ..lora.clone() })
    };
    let shared: Adapters = all.loras().map(share).collect();
    let (_keep, dir) = saved(&model, &shared);
    let shapes = tensors(&dir);
    let a = "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight";
    assert_eq!(shapes[a].0, [6 * 8, 48]);
    assert_eq!(config(&dir)["rank_pattern"], json!({}));
    assert!(same_bits(&read(&model, &dir).unwrap(), &shared));
}

#[test]
fn experts_and_parts_without_an_update_have_none_afterwards() {
    for held in FAMILIES {
        let model = tiny(held.family);
        let all = random_experts(&model, 13);
        let sites = model.linear_sites().iter().filter_map(|site| {
            let (expert, part) = site.role.expert()?;
            let is_kept = match expert.expert {
                1 => true,
                2 => part == ExpertPart::Gate,
                4 => part == ExpertPart::Up && expert.layer.block == 0,
                _ => false,
            };
            is_kept.then(|| site.site.clone())
        });
        let some: Adapters =
            sites.map(|site| (site.clone(), all.at(site.as_str()).unwrap().clone())).collect();
        let (_keep, dir) = saved(&model, &some);
        assert!(same_bits(&read(&model, &dir).unwrap(), &some), "{}", held.family);
        for leaf in [ExpertPart::Up, ExpertPart::Down] {
            let is_leaf =
                |site: &&LinearSite| site.role.expert().is_some_and(|(_, part)| part == leaf);
            let sites = model.linear_sites().iter().filter(is_leaf);
            let one: Adapters = sites
                .map(|site| (site.site.clone(), all.at(site.site.as_str()).unwrap().clone()))
                .collect();
            let (_keep, dir) = saved(&model, &one);
            assert!(tensors(&dir).keys().all(|name| !name.contains("base_layer")));
            assert!(same_bits(&read(&model, &dir).unwrap(), &one), "{}: {leaf:?}", held.family);
        }
    }
}

/// A stack has one rank and one scale.
#[test]
fn ranks_and_scales_that_differ_in_a_layer_are_evened_out() {
    let model = tiny("llama4_text");
    let uneven = |(at, (site, lora)): (usize, (&Site, &Lora))| {
        let (a, b) =
            (lora.a.clone().narrow(1, 0, 1 + at % 5), lora.b.clone().narrow(0, 0, 1 + at % 5));
        (site.clone(), Lora { a, b, scale: 0.5 + (at % 7) as f32 })
    };
    let adapters: Adapters = random_experts(&model, 14).loras().enumerate().map(uneven).collect();
    let (_keep, dir) = saved(&model, &adapters);
    let read = read(&model, &dir).unwrap();
    let logits = |adapters: &Adapters| floats(model.logits(&input(), &mut Pass::adapted(adapters)));
    assert!(farthest(&logits(&adapters), &logits(&read)) < 1e-5);
    assert!(farthest(&logits(&adapters), &logits(&Adapters::default())) > 0.01);
}

/// The scale of the first expert may be zero, or so near it or so far from it that f32 has no ratio to the others'.
#[test]
fn scales_of_any_magnitude_are_evened_out() {
    for family in ["qwen3_moe", "llama4_text", "granitemoe"] {
        let model = tiny(family);
        let adapters = random_experts(&model, 18);
        let logits =
            |adapters: &Adapters| floats(model.logits(&input(), &mut Pass::adapted(adapters)));
        let plain = logits(&Adapters::default());
        for (scale, factor) in [(0.0, 1.0), (1e-40, 1.0), (1e-25, 1e25), (-1e30, -1e-30)] {
            let first = |(site, lora): (&Site, &Lora)| {
                let (b, is_first) = (lora.b.clone(), site.as_str().contains("experts.0."));
                let lora = match is_first {
                    true => {
                        Lora { b: b.mul_scalar(factor), scale: lora.scale * scale, ..lora.clone() }
                    }
                    false if factor > 1.0 => Lora {
                        b: b.mul_scalar(1.0 / factor),
                        scale: lora.scale * factor,
                        ..lora.clone()
                    },
                    false => lora.clone(),
                };
                (site.clone(), lora)
            };
            let uneven: Adapters = adapters.loras().map(first).collect();
            let (_keep, dir) = saved(&model, &uneven);
            let read = read(&model, &dir).unwrap();
            let (expected, found) = (logits(&uneven), logits(&read));
            let what = format!("{family}, {scale}");
            assert!(farthest(&expected, &found) < 1e-5, "{what}");
            assert!(farthest(&expected, &plain) > 0.01, "{what}");
            assert_eq!(read.len(), adapters.len(), "{what}");
        }
    }
}

/// For transposed stacks the shapes take precedence over the version: PEFT's layout depends on transformers.
#[test]
fn shapes_of_transposed_stacks_come_before_the_version() {
    for family in ["gpt_oss", "llama4_text"] {
        let model = tiny(family);
        let adapters = random_experts(&model, 15);
        let (_keep, dir) = saved(&model, &adapters);
        for version in [json!("0.18.0"), json!("0.21.2"), Value::Null] {
            set(&dir, "peft_version", version);
            assert!(same_bits(&read(&model, &dir).unwrap(), &adapters), "{family}");
        }
    }
}

#[test]
fn adapters_that_peft_wrote_for_stacks_give_its_logits() {
    for family in ["granitemoe", "gpt_oss", "llama4_text"] {
        let model = tiny(family);
        let read = |name: &str| {
            peft::read(&golden(&format!("{name}_{family}")), model.linear_sites(), &Device::flex())
        };
        let base = reference("logits_stacks.safetensors", &format!("base_{family}"));
        for name in ["stacked", "ours"] {
            let file = if name == "ours" { "logits_ours_stacks" } else { "logits_stacks" };
            let expected = reference(&format!("{file}.safetensors"), family);
            let adapters = read(name).unwrap().adapters;
            let found = floats(model.logits(&input(), &mut Pass::adapted(&adapters)));
            assert!(farthest(&expected, &base) > 100.0 * 2e-4, "{name} {family}");
            let error = distance(&found, &expected);
            assert!(error < 2e-5, "{name} {family}: {error}");
        }
    }
}

/// This test writes `ours_FAMILY/` if run with `WRITE_GOLDENS` set; `make.py` computes PEFT's logits for it.
#[test]
fn what_is_written_for_stacks_is_what_peft_was_given() {
    for family in ["granitemoe", "gpt_oss", "llama4_text"] {
        let (model, dir) = (tiny(family), TempDir::new().unwrap());
        let name = format!("ours_{family}");
        let options =
            LoraOptions { rank: 2, expert_rank: 2, alpha: 3.0, ..targets([EXPERTS, "q_proj"]) };
        let adapters = stirred(&model, &options, 16);
        let target = match std::env::var_os("WRITE_GOLDENS") {
            Some(_) => golden(&name),
            None => dir.path().join(&name),
        };
        save(&target, &adapters, model.linear_sites(), &Default::default(), None).unwrap();
        for file in [peft::CONFIG_FILE, peft::MODEL_FILE] {
            let written = fs::read(target.join(file)).unwrap();
            assert!(written == fs::read(golden(&name).join(file)).unwrap(), "{name}/{file}");
        }
    }
}

#[test]
fn a_stack_has_a_site_for_every_expert() {
    let model = tiny("gpt_oss");
    let made =
        |target| init_lora(model.linear_sites(), &targets([target]), 0, &Device::flex()).unwrap();
    assert_eq!(made(EXPERTS).len(), 3 * 6 * 3);
    assert_eq!(made("gate_proj").len(), 3 * 6);
    assert_eq!(made("experts.5.down_proj").len(), 3);
}

/// A stack whose B is zero keeps the full rank: its halves cannot be told apart.
#[test]
fn an_update_of_zeros_keeps_its_rank() {
    let model = tiny("granitemoe");
    let (_keep, dir) = saved(&model, &random_experts(&model, 17));
    let mut files = tensors(&dir);
    let zero = |(name, (_, values)): (&String, &mut (Vec<usize>, Vec<f32>))| {
        if name.contains("lora_B") {
            values.fill(0.0);
        }
    };
    files.iter_mut().for_each(zero);
    crate::experts::write_tensors(&dir, &files);
    let read = read(&model, &dir).unwrap();
    let rank = |leaf: &str| {
        let site = format!("model.layers.0.block_sparse_moe.experts.3.{leaf}");
        read.at(&site).unwrap().lora().rank()
    };
    assert_eq!(["gate_proj", "up_proj", "down_proj"].map(rank), [16, 16, 8]);
}

/// Separate LoRAs of gate and up are written as one of both, whatever the values.
#[test]
fn bytes_of_a_golden_stack_are_its_definition() {
    let bytes = fs::read(golden("ours_llama4_text").join(peft::MODEL_FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    let module = "base_model.model.model.layers.0.feed_forward.experts";
    // PEFT treats these transposed stacks as plain ones, so in and out are swapped. Rank 2 · 2 for gate and up.
    assert_eq!(shape(&format!("{module}.base_layer.lora_A.weight")), [6 * 4, 32]);
    assert_eq!(shape(&format!("{module}.base_layer.lora_B.weight")), [40, 4 * 6]);
    assert_eq!(shape(&format!("{module}.lora_A.weight")), [6 * 2, 40]);
    assert_eq!(shape(&format!("{module}.lora_B.weight")), [16, 2 * 6]);
}

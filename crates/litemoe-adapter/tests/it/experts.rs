//! LoRAs on routed experts: as targets, in tuning, and one by one in PEFT's files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use litemoe_adapter::{
    ATTENTION, AdapterError, EXPERTS, Effect, LoraOptions, MicroBatch, gradients, init_lora, mount,
    peft, save,
};
use litemoe_core::{Adapters, ExpertPart, LinearRole, LinearSite, MoeModel, Sequence};
use litemoe_model::Model;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{farthest, floats, model, rows, same_bits, stirred};
use crate::peft::set;

pub(crate) fn targets<const N: usize>(targets: [&str; N]) -> LoraOptions {
    let targets = targets.map(str::to_owned).into();
    LoraOptions { targets, expert_rank: 8, ..LoraOptions::default() }
}

/// An adapter with random A and B on every expert.
pub(crate) fn random_experts(model: &Model, seed: u64) -> Adapters {
    stirred(model, &targets([EXPERTS]), seed)
}

fn expert_sites(model: &Model) -> Vec<LinearSite> {
    model.linear_sites().iter().filter(|site| site.role.is_expert()).cloned().collect()
}

#[test]
fn attention_and_experts_are_targets_and_both_by_default() {
    let model = model();
    let made = |options: &LoraOptions| -> Vec<String> {
        let made = init_lora(model.linear_sites(), options, 0, &Device::flex()).unwrap();
        made.loras().map(|(site, _)| site.to_string()).collect()
    };
    // Blocks 0 and 2 have four experts of three matrices; block 1 is dense.
    assert_eq!(made(&targets([EXPERTS])).len(), 2 * 4 * 3);
    assert_eq!(made(&targets(["gate_proj"])).len(), 2 * 4 + 1);
    assert_eq!(made(&targets(["experts.3.up_proj"])).len(), 2);
    let attention = made(&targets([ATTENTION]));
    assert!(attention.len() == 12 && attention.iter().all(|site| site.contains("self_attn")));
    let mut both = [attention, made(&targets([EXPERTS]))].concat();
    both.sort();
    assert_eq!(made(&LoraOptions::default()), both);
}

#[test]
fn experts_have_a_rank_of_their_own_and_one_scale_with_the_others() {
    let model = model();
    let options = LoraOptions { rank: 4, expert_rank: 2, alpha: 6.0, ..LoraOptions::default() };
    let made = init_lora(model.linear_sites(), &options, 0, &Device::flex()).unwrap();
    for (site, lora) in made.loras() {
        let rank = if site.as_str().contains("experts") { 2 } else { 4 };
        assert_eq!((lora.rank(), lora.scale), (rank, 1.5), "{site}");
    }
}

#[test]
fn an_expert_that_no_token_meets_has_zeros_for_gradients() {
    let model = model();
    let adapters = random_experts(&model, 1);
    let row = Sequence { tokens: vec![5, 17], completion: vec![false, true], encoder: None };
    let micro = MicroBatch { rows: 1, threads: 1, recompute: false };
    let found = gradients(&model, &adapters, &[row], micro).unwrap();
    assert_eq!(found.by_site.len(), adapters.len());
    let is_zero = |site: &LinearSite| {
        let gradient = &found.by_site[&site.site];
        let values = [floats(gradient.a.clone()), floats(gradient.b.clone())].concat();
        values.iter().all(|&value| value == 0.0)
    };
    // One input token, routed to two of four experts.
    let zeros = expert_sites(&model).iter().filter(|site| is_zero(site)).count();
    assert_eq!(zeros, adapters.len() / 2);
}

#[test]
fn however_a_batch_is_cut_experts_have_the_same_gradients() {
    let model = model();
    let adapters = stirred(&model, &targets([EXPERTS, "q_proj", "down_proj"]), 2);
    let rows = &rows()[..8];
    let of = |rows_at_once, threads, recompute| {
        let micro = MicroBatch { rows: rows_at_once, threads, recompute };
        gradients(&model, &adapters, rows, micro).unwrap()
    };
    let whole = of(8, 1, false);
    for cut in [of(8, 1, true), of(3, 2, false), of(1, 2, true)] {
        for (site, whole) in &whole.by_site {
            let cut = &cut.by_site[site];
            for (whole, cut) in [(&whole.a, &cut.a), (&whole.b, &cut.b)] {
                let (whole, cut) = (floats(whole.clone()), floats(cut.clone()));
                let largest = whole.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                assert!(farthest(&whole, &cut) <= 1e-4 * largest && largest > 0.0, "{site}");
            }
        }
    }
}

#[test]
fn a_probe_that_meets_no_updated_expert_says_so() {
    let model = model();
    let all = random_experts(&model, 3);
    let of_block_0 = |expert: usize| -> Adapters {
        let of_expert = format!("model.layers.0.mlp.experts.{expert}.");
        let kept = all.loras().filter(|(site, _)| site.as_str().starts_with(&of_expert));
        kept.map(|(site, lora)| (site.clone(), lora.clone())).collect()
    };
    let effects = (0..4).map(|expert| mount(&model, &of_block_0(expert).into(), &[5]).unwrap());
    let unmet = effects.filter(|effect| *effect == Effect::Unmet).count();
    assert_eq!(unmet, 2, "a token meets two of four experts");
}

fn saved(model: &Model, adapters: &Adapters) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let target = dir.path().join("adapter");
    save(&target, adapters, model.linear_sites(), &Default::default(), None).unwrap();
    (dir, target)
}

pub(crate) fn read(model: &Model, dir: &Path) -> Result<Adapters, AdapterError> {
    Ok(peft::read(dir, model.linear_sites(), &Device::flex())?.adapters)
}

/// Tensors of a file: shape and values.
pub(crate) fn tensors(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(dir.join(peft::MODEL_FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: &TensorView<'_>| {
        let (chunks, _) = view.data().as_chunks();
        (view.shape().to_vec(), chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    };
    file.iter().map(|(name, view)| (name.to_owned(), values(&view))).collect()
}

pub(crate) fn write_tensors(dir: &Path, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    fs::write(dir.join(peft::MODEL_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(peft::CONFIG_FILE)).unwrap()).unwrap()
}

#[test]
fn experts_without_an_update_are_written_as_zeros_and_read_as_none() {
    let model = model();
    let some: Adapters = random_experts(&model, 4)
        .loras()
        .filter(|(site, _)| {
            let (path, of_expert) =
                (site.as_str(), |expert| format!("layers.0.mlp.experts.{expert}."));
            path.contains(&of_expert(1))
                || path.contains(&of_expert(3)) && !path.ends_with("down_proj")
        })
        .map(|(site, lora)| (site.clone(), lora.clone()))
        .collect();
    assert_eq!(some.len(), 5);
    let (_keep, dir) = saved(&model, &some);
    let tensors = tensors(&dir);
    assert_eq!(tensors.len(), 4 * 3 * 2, "the layer is whole, as PEFT needs it");
    let is_zero = |expert: usize| {
        let of_expert = format!("base_model.model.model.layers.0.mlp.experts.{expert}.");
        let mut of = tensors.iter().filter(|(name, _)| name.starts_with(&of_expert));
        of.all(|(_, (_, values))| values.iter().all(|&value| value == 0.0))
    };
    assert_eq!([0, 1, 2, 3].map(is_zero), [true, false, true, false]);
    assert!(same_bits(&read(&model, &dir).unwrap(), &some));
}

#[test]
fn targets_are_named_as_shortly_as_they_mean_nothing_else() {
    let model = model();
    let named = |options: &LoraOptions| {
        let (_keep, dir) = saved(&model, &stirred(&model, options, 0));
        config(&dir)["target_modules"].clone()
    };
    assert_eq!(named(&targets([EXPERTS, "gate_proj"]))[0], "experts.0.down_proj");
    assert_eq!(named(&targets(["gate_proj"])), json!(["gate_proj"]));
    // The dense block has projections of the same names.
    assert_eq!(named(&targets([EXPERTS])).as_array().unwrap().len(), 4 * 3);
    let one = "model.layers.0.mlp.experts.0.gate_proj";
    assert_eq!(named(&targets([one]))[0], one);
}

#[test]
fn an_expert_is_there_whole_or_not_at_all() {
    let (model, drop) = (model(), |dir: &Path, end: &str| {
        let mut left = tensors(dir);
        left.retain(|name, _| !name.contains(end));
        write_tensors(dir, &left);
    });
    let all = random_experts(&model, 5);
    let (_keep, dir) = saved(&model, &all);
    drop(&dir, "layers.0.mlp.experts.2.");
    set(&dir, "target_modules", json!(r".*experts\..*_proj"));
    let left = read(&model, &dir).unwrap();
    assert_eq!(left.len(), all.len() - 3, "as other programs write it");
    drop(&dir, "layers.2.mlp.experts.1.up_proj");
    let error = read(&model, &dir).unwrap_err();
    let missing = |error: &AdapterError, end: &str| matches!(error, AdapterError::MissingTensor { tensor, .. } if tensor.contains(end));
    assert!(missing(&error, "layers.2.mlp.experts.1.up_proj"), "{error}");
    let (_keep, dir) = saved(&model, &all);
    drop(&dir, "mlp.experts.2.");
    let error = read(&model, &dir).unwrap_err();
    assert!(missing(&error, "mlp.experts.2."), "a name that claims nothing: {error}");
}

#[test]
fn sites_say_which_expert_and_which_part() {
    let model = model();
    let sites = expert_sites(&model);
    let of = |path: &str| sites.iter().find(|site| site.site.as_str() == path).unwrap();
    let down = of("model.layers.2.mlp.experts.3.down_proj");
    let LinearRole::Expert { expert, part } = down.role else { panic!("{down:?}") };
    assert_eq!((expert, part), (model.moe_layers()[1].id.expert(3), ExpertPart::Down));
    assert_eq!([down.d_in, down.d_out], [16, 32]);
}

/// Different ranks, as after a refit: PEFT uses one rank and one α for per-expert LoRAs.
#[test]
fn experts_of_several_ranks_are_written_in_one_and_read_in_their_own() {
    let model = model();
    let of = |part: &str, expert_rank, seed| {
        stirred(&model, &LoraOptions { expert_rank, ..targets([part]) }, seed)
    };
    let mut adapters = of("experts.1.down_proj", 6, 3);
    for others in [of("experts.1.gate_proj", 2, 4), of("experts.1.up_proj", 3, 5)] {
        for (site, lora) in others.loras() {
            adapters.insert(site.clone(), lora.clone());
        }
    }
    let (keep, dir) = saved(&model, &adapters);
    let config = config(&dir);
    assert_eq!((&config["r"], &config["rank_pattern"]), (&json!(6), &json!({})));
    assert_eq!(config["alpha_pattern"], json!({}));
    assert!(same_bits(&read(&model, &dir).unwrap(), &adapters));
    drop(keep);
}

//! Tests of `choose_mount`, and of the routing in a mounted adapter's directory.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use litemoe_adapter::peft::{self, PeftConfig};
use litemoe_adapter::{
    AdapterError, AdapterRecord, Guard, GuardOptions, KeptExperts, LayerKeptExperts, Measure,
    MountChoice, MountRecord, MountRouting, PENALTIES, SCALES, choose_mount, evaluate, load, save,
};
use litemoe_core::{
    Adapters, Fingerprint, Input, LanguageModel, Lora, MoeModel, Pass, RouterRule, Site,
    WeightDtype,
};
use litemoe_model::Model;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{floats, model, random_adapters, rows};
use crate::mounting::record;

const ALL: GuardOptions =
    GuardOptions { routing: None, scale: None, by: Measure::Loss, batch_tokens: 64 };

/// Keeps two of every layer's four experts.
fn kept(model: &Model) -> KeptExperts {
    let layer = |layer: &litemoe_core::MoeLayer| {
        (layer.id, LayerKeptExperts { n_experts: layer.n_experts, kept: vec![1, 3] })
    };
    let layers = model.moe_layers().iter().map(layer).collect();
    KeptExperts { router: RouterRule::DropRows, layers }
}

fn guard(model: &Model, adapters: &Adapters, options: GuardOptions) -> Guard {
    let kept = kept(model);
    choose_mount(model, adapters, Some(&kept), &rows(), options, &mut |_| ()).unwrap()
}

#[test]
fn the_guard_takes_the_best_of_what_it_tried() {
    let model = model();
    for (seed, by) in (0..12).zip([Measure::Loss, Measure::Accuracy].into_iter().cycle()) {
        let adapters = random_adapters(&model, seed).scaled(3.0);
        let found = guard(&model, &adapters, GuardOptions { by, ..ALL });
        let key = |tried: &litemoe_adapter::Tried| match by {
            Measure::Accuracy => (1.0 - tried.evaluation.accuracy(), tried.evaluation.loss()),
            _ => (tried.evaluation.loss(), 0.0),
        };
        let keys: Vec<_> = found.tried.iter().map(key).collect();
        let best = keys.iter().copied().min_by(|x, y| x.partial_cmp(y).unwrap()).unwrap();
        let first = keys.iter().position(|&key| key == best).unwrap();
        assert_eq!(found.choice, found.tried[first].choice);
        assert_eq!(found.tried[0].choice, None);
        // Mounting reproduces the recorded evaluation.
        for tried in &found.tried {
            let mounted = tried.choice.map(|choice| choice.mount(&adapters, Some(&kept(&model))));
            let again = evaluate(&model, &rows(), mounted.as_ref(), 64, &mut |_| ()).unwrap();
            assert_eq!(tried.evaluation, again);
        }
        assert!(found.tried.len() <= ALL.max_tried(true));
        let choices: Vec<_> =
            found.tried.iter().map(|tried| format!("{:?}", tried.choice)).collect();
        assert!((1..choices.len()).all(|i| !choices[..i].contains(&choices[i])), "{choices:?}");
    }
}

#[test]
fn both_ends_of_the_routing_and_every_scale_are_tried() {
    let model = model();
    let found = guard(&model, &random_adapters(&model, 1), ALL);
    let choices: Vec<MountChoice> = found.tried.iter().filter_map(|tried| tried.choice).collect();
    for routing in [MountRouting::Restricted, MountRouting::Full] {
        assert!(choices.contains(&MountChoice { routing, scale: 1.0 }));
    }
    let last = choices.last().unwrap().routing;
    for scale in SCALES {
        assert!(choices.contains(&MountChoice { routing: last, scale }));
    }
}

#[test]
fn what_is_given_is_not_chosen() {
    let model = model();
    let adapters = random_adapters(&model, 2);
    let routing = Some(MountRouting::Biased(1.5));
    let found = guard(&model, &adapters, GuardOptions { routing, scale: Some(0.6), ..ALL });
    let choices: Vec<_> = found.tried.iter().map(|tried| tried.choice).collect();
    let given = MountChoice { routing: MountRouting::Biased(1.5), scale: 0.6 };
    assert_eq!(choices, [None, Some(given)]);
}

#[test]
fn an_adapter_that_does_nothing_is_not_mounted_under_full_routing() {
    let model = model();
    let zero = |(site, lora): (&Site, &Lora)| {
        (site.clone(), Lora { b: lora.b.zeros_like(), ..lora.clone() })
    };
    let nothing: Adapters = random_adapters(&model, 0).loras().map(zero).collect();
    let full = GuardOptions { routing: Some(MountRouting::Full), ..ALL };
    assert_eq!(guard(&model, &nothing, full).choice, None);
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let (model, rows) = (model(), rows());
    let refused = |options, kept: Option<&KeptExperts>| {
        let adapters = random_adapters(&model, 0);
        let found = choose_mount(&model, &adapters, kept, &rows, options, &mut |_| ());
        found.unwrap_err().to_string()
    };
    let kept = kept(&model);
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = refused(GuardOptions { scale: Some(scale), ..ALL }, Some(&kept));
        assert!(error.contains("must be a number above 0"), "{error}");
    }
    let routing = Some(MountRouting::Restricted);
    let error = refused(GuardOptions { routing, ..ALL }, None);
    assert!(error.contains("was not tuned on one"), "{error}");
}

#[test]
fn a_routing_is_a_word_or_a_number() {
    for (text, routing, json) in [
        ("full", MountRouting::Full, json!("full")),
        ("0", MountRouting::Full, json!("full")),
        ("restricted", MountRouting::Restricted, json!("restricted")),
        ("2.5", MountRouting::Biased(2.5), json!(2.5)),
    ] {
        assert_eq!(text.parse::<MountRouting>().unwrap(), routing);
        assert_eq!(serde_json::to_value(routing).unwrap(), json);
        assert_eq!(serde_json::from_value::<MountRouting>(json).unwrap(), routing);
    }
    for text in ["", "inf", "-1", "NaN", "Full", "half"] {
        assert!(text.parse::<MountRouting>().is_err(), "{text}");
    }
    for (penalty, routing) in PENALTIES.into_iter().zip([
        MountRouting::Restricted,
        MountRouting::Biased(4.0),
        MountRouting::Biased(2.0),
        MountRouting::Biased(1.0),
        MountRouting::Full,
    ]) {
        assert_eq!(MountRouting::of_penalty(penalty), Some(routing));
        assert_eq!(routing.penalty(), penalty);
    }
}

/// The directory of an adapter mounted with a routing.
pub(crate) struct Dir {
    _keep: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn mounted(model: &Model, adapters: &Adapters, routing: MountRouting) -> Dir {
    let keep = TempDir::new().unwrap();
    let path = keep.path().join("mounted");
    let experts = Some(kept(model));
    let (tried, dtype) = (Vec::new(), WeightDtype::F32);
    let mount = Some(MountRecord { routing, scale: 1.0, experts, tried, dtype });
    let record = AdapterRecord { mount, ..record() };
    let config = PeftConfig { routed: routing != MountRouting::Full, ..Default::default() };
    save(&path, adapters, model.linear_sites(), &config, Some(&record)).unwrap();
    Dir { _keep: keep, path }
}

/// The record of an adapter, without its hashes.
fn without_checksum(dir: &Path) -> Value {
    let text = std::fs::read(dir.join(litemoe_adapter::RECORD_FILE)).unwrap();
    let mut record: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
    record.retain(|key, _| !key.ends_with("sha256"));
    record.into()
}

fn loaded(dir: &Path, model: &Model) -> Result<litemoe_core::MountedAdapter, AdapterError> {
    load(dir, model, &Fingerprint::new("foundation")).map(|loaded| loaded.mounted)
}

fn logits(model: &Model, mounted: &litemoe_core::MountedAdapter) -> Vec<f32> {
    let input = Input::decoder(vec![vec![5, 17, 90, 3, 77]]);
    let logits: Tensor<2> = model.logits(&input, &mut Pass::mounted(Some(mounted)));
    floats(logits)
}

#[test]
fn a_mounted_directory_routes_as_it_says() {
    let model = model();
    let adapters = random_adapters(&model, 4);
    for routing in [MountRouting::Full, MountRouting::Restricted, MountRouting::Biased(1.5)] {
        let dir = mounted(&model, &adapters, routing);
        let choice = MountChoice { routing, scale: 1.0 };
        let expected = choice.mount(&adapters, Some(&kept(&model)));
        let found = loaded(&dir.path, &model).unwrap();
        assert_eq!(logits(&model, &found), logits(&model, &expected), "{routing}");
        let is_plain = dir.path.join(peft::MODEL_FILE).exists();
        assert_eq!(is_plain, routing == MountRouting::Full);
        let text = std::fs::read(dir.path.join(peft::CONFIG_FILE)).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        let kind = if is_plain { peft::LORA_TYPE } else { peft::LITEMOE_TYPE };
        assert_eq!(config["peft_type"], kind);
    }
}

#[test]
fn format_and_routing_go_together() {
    let model = model();
    let adapters = random_adapters(&model, 4);
    let change = |routing: MountRouting, file: &str, from: &str, to: &str| {
        let dir = mounted(&model, &adapters, routing);
        let record = without_checksum(&dir.path).to_string();
        std::fs::write(dir.path.join(litemoe_adapter::RECORD_FILE), record).unwrap();
        let path = dir.path.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        if to == peft::LORA_TYPE {
            let [ours, plain] =
                [peft::LITEMOE_FILE, peft::MODEL_FILE].map(|name| dir.path.join(name));
            std::fs::rename(ours, plain).unwrap();
        }
        loaded(&dir.path, &model).unwrap_err().to_string()
    };
    let (restricted, record) = (MountRouting::Restricted, litemoe_adapter::RECORD_FILE);
    let error = change(restricted, peft::CONFIG_FILE, peft::LITEMOE_TYPE, peft::LORA_TYPE);
    assert!(error.contains("restricted routing, which PEFT's format cannot say"), "{error}");
    let error = change(restricted, record, "\"restricted\"", "\"full\"");
    assert!(error.contains("must say how tokens are routed"), "{error}");
}

/// Kept experts in `litemoe.json` that do not fit the model are refused.
#[test]
fn kept_experts_are_checked_against_the_model() {
    let model = model();
    let dir = mounted(&model, &random_adapters(&model, 4), MountRouting::Restricted);
    let path = dir.path.join(litemoe_adapter::RECORD_FILE);
    let whole = without_checksum(&dir.path);
    let refused = |edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut record = whole.clone();
        edit(record["mount"]["experts"]["layers"].as_object_mut().unwrap());
        std::fs::write(&path, record.to_string()).unwrap();
        loaded(&dir.path, &model).unwrap_err().to_string()
    };
    let with = |key: &'static str, value: Value| {
        refused(&move |layers: &mut serde_json::Map<String, Value>| {
            layers["2"][key] = value.clone();
        })
    };
    assert!(refused(&|layers| drop(layers.remove("2"))).contains("nothing is said of layer 2"));
    assert!(refused(&|layers| layers.clear()).contains("nothing is said of layer 0"));
    let error = refused(&|layers| {
        let layer = layers["2"].clone();
        layers.insert("1".to_owned(), layer);
    });
    assert!(error.contains("layer 1 is named, but the model has no experts there"), "{error}");
    for n_experts in [0u64, 3, 5, 1 << 62] {
        let error = with("n_experts", json!(n_experts));
        assert!(
            error.contains(&format!("has 4 experts, but {n_experts} are spoken of")),
            "{error}"
        );
    }
    assert!(with("kept", json!([1, 4])).contains("has 4 experts, but expert 4 is named"));
    assert!(with("kept", json!([1, 1])).contains("not in ascending order"));
    assert!(with("kept", json!([3, 1])).contains("not in ascending order"));
    assert!(with("kept", json!([1])).contains("keeps 1 experts, but its router needs 2"));
    assert!(with("kept", json!([])).contains("keeps 0 experts"));
    std::fs::write(&path, whole.to_string()).unwrap();
    loaded(&dir.path, &model).unwrap();
}

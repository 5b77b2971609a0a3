use std::fs;
use std::path::Path;

use litemoe_adapter::{
    AdapterError, AdapterRecord, EXPERTS, Effect, LoraOptions, RECORD_VERSION, SiteMap,
    TuneMetrics, TuneOptions, check_fit, init_lora, load, mount, peft, save,
};
use litemoe_core::{Adapters, Fingerprint, LanguageModel, Lora, MoeModel, Site, WeightDtype};
use serde_json::json;
use tempfile::TempDir;

use crate::experts::targets;
use crate::fixture::{Deaf, attention, model, random_adapters, stirred};
use crate::peft::set;

pub(crate) fn record() -> AdapterRecord {
    AdapterRecord {
        version: RECORD_VERSION,
        program: "litemoe 0.1.0".to_owned(),
        foundation: Fingerprint::new("foundation"),
        trained_on: Fingerprint::new("proxy"),
        plan: Some("plan".to_owned()),
        refit: None,
        map: SiteMap::Identity,
        mount: None,
        lora: LoraOptions::default(),
        tune: TuneOptions::default(),
        dtype: WeightDtype::F32,
        metrics: TuneMetrics {
            best_step: 50,
            validation_loss: Some(0.1 + 0.2),
            validation_accuracy: Some(0.5),
            tokens: 1000,
        },
        peft_sha256: None,
    }
}

#[test]
fn an_adapter_fits_its_foundation_and_its_proxy_and_no_other() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let target = dir.path().join("adapter");
    let adapters = random_adapters(&model, 0);
    save(&target, &adapters, model.linear_sites(), &Default::default(), Some(&record())).unwrap();
    for name in ["foundation", "proxy"] {
        load(&target, &model, &Fingerprint::new(name)).unwrap();
    }
    let error = load(&target, &model, &Fingerprint::new("other")).unwrap_err();
    assert!(matches!(error, AdapterError::OtherBase { .. }), "{error}");
}

#[test]
fn an_adapter_that_moves_logits_is_mounted() {
    let model = model();
    let effect = mount(&model, &random_adapters(&model, 0).into(), &[5, 17, 90]).unwrap();
    assert!(matches!(effect, Effect::Moves(by) if by > 1e-3), "{effect:?}");
}

#[test]
fn an_adapter_of_zeros_is_named_as_such() {
    let model = model();
    let adapters = init_lora(model.linear_sites(), &attention(), 0, &model.device()).unwrap();
    let zero = random_adapters(&model, 0).scaled(0.0);
    assert_eq!(mount(&model, &adapters.into(), &[5, 17]).unwrap(), Effect::Zero);
    assert_eq!(mount(&model, &zero.into(), &[5]).unwrap(), Effect::Zero);
}

#[test]
fn an_adapter_without_effect_is_refused() {
    let model = model();
    let adapters = random_adapters(&model, 0);
    let error = mount(&Deaf(model), &adapters.into(), &[5, 17]).unwrap_err();
    assert!(matches!(error, AdapterError::NoEffect { sites: 12 }), "{error}");
}

#[test]
fn an_adapter_of_experts_without_effect_is_refused() {
    let model = model();
    let adapters = stirred(&model, &targets([EXPERTS]), 0);
    let error = mount(&Deaf(model), &adapters.into(), &[5, 17]).unwrap_err();
    assert!(matches!(error, AdapterError::NoEffect { sites: 24 }), "{error}");
}

#[test]
fn updates_that_do_not_fit_are_refused() {
    let model = model();
    let spoil = |change: &dyn Fn(Site, Lora) -> (Site, Lora)| {
        let adapters = random_adapters(&model, 0);
        let changed: Adapters =
            adapters.loras().map(|(site, lora)| change(site.clone(), lora.clone())).collect();
        check_fit(&changed, model.linear_sites()).unwrap_err()
    };
    let lost = spoil(&|site, lora| (Site::new(format!("x.{site}")), lora));
    assert!(matches!(lost, AdapterError::NoSuchSite { .. }), "{lost}");
    let turned =
        spoil(&|site, lora| (site, Lora { a: lora.b.transpose(), b: lora.a.transpose(), ..lora }));
    assert!(matches!(turned, AdapterError::SiteShape { .. }), "{turned}");
    let broken = spoil(&|site, lora| (site, Lora { b: lora.b.mul_scalar(f32::NAN), ..lora }));
    assert!(matches!(broken, AdapterError::SiteNotFinite { .. }), "{broken}");
}

/// Sorting, defaults and new keys that are off, as PEFT's `save_pretrained` may write them.
#[test]
fn a_configuration_may_be_rewritten_without_a_change_of_meaning() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let saved = |name: &str, targets| {
        let target = dir.path().join(name);
        let adapters = stirred(&model, &targets, 1);
        save(&target, &adapters, model.linear_sites(), &Default::default(), Some(&record()))
            .unwrap();
        target
    };
    let loads = |target: &Path| load(target, &model, &Fingerprint::new("foundation")).map(drop);
    let target = saved("attention", attention());
    for (key, value) in [
        ("target_modules", json!(["v_proj", "q_proj", "o_proj", "k_proj"])),
        ("peft_version", json!("0.22.0")),
        ("layers_to_transform", json!([])),
        ("a_later_feature", json!(null)),
        ("use_a_later_feature", json!(false)),
        ("exclude_modules", json!([])),
    ] {
        set(&target, key, value);
        loads(&target).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let router = saved("router", targets(["mlp.gate"]));
    for (target, key, value) in [
        (&target, "lora_alpha", json!(17)),
        (&target, "layers_to_transform", json!([0, 1, 2])),
        (&router, "peft_version", json!("0.20.0")),
    ] {
        let config = target.join(peft::CONFIG_FILE);
        let before = fs::read(&config).unwrap();
        set(target, key, value);
        let error = loads(target).unwrap_err();
        assert!(matches!(error, AdapterError::Changed { .. }), "{key}: {error}");
        fs::write(config, before).unwrap();
    }
    loads(&router).unwrap();
}

//! LoRAs of a proxy's experts are mapped to the foundation's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use litemoe_adapter::{
    AdapterError, AdapterRecord, EXPERTS, KeptExperts, LoadedAdapter, LoraOptions, MountRouting,
    SiteMap, load, load_with_plan, save, to_foundation,
};
use litemoe_core::{
    AbsorbedExpert, Adapters, Group, Input, LanguageModel, LayerId, LayerPlan, Lora, MoeModel,
    MountedAdapter, PLAN_VERSION, Pass, Plan, PlanOptions, Site,
};
use litemoe_model::{Checkpoint, Model, write_proxy};
use tempfile::TempDir;

use crate::experts::targets;
use crate::fixture::{
    attention, distance, floats, golden, model, random_adapters, same_bits, stirred,
};
use crate::mounting::record;

/// A plan that keeps experts 1 and 3 of four, and in block 2 merges expert 0 into expert 1.
fn plan(foundation: &Checkpoint) -> Plan {
    let merged = Group {
        centroid: 1,
        share: 0.5,
        absorbed: vec![AbsorbedExpert { expert: 0, share: 0.5, alignment: None }],
    };
    let layer =
        |groups, removed: &[usize]| LayerPlan { n_experts: 4, groups, removed: removed.to_vec() };
    let layers = BTreeMap::from([
        (LayerId::decoder(0), layer(vec![Group::single(1), Group::single(3)], &[0, 2])),
        (LayerId::decoder(2), layer(vec![merged, Group::single(3)], &[2])),
    ]);
    Plan {
        version: PLAN_VERSION,
        fingerprint: foundation.fingerprint().clone(),
        input_sha256: String::new(),
        options: PlanOptions::default(),
        layers,
    }
}

/// A proxy and an adapter tuned on it.
struct Tuned {
    dir: TempDir,
    foundation: Checkpoint,
    plan: Plan,
    proxy: Checkpoint,
    adapters: Adapters,
}

impl Tuned {
    fn new(options: &LoraOptions) -> Self {
        let foundation = Checkpoint::open(golden("base")).unwrap();
        let plan = plan(&foundation);
        Self::by(foundation, plan, options)
    }

    fn by(foundation: Checkpoint, plan: Plan, options: &LoraOptions) -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().join("proxy");
        write_proxy(&foundation, &plan, &at, &mut |_, plan| {
            Ok(plan.groups.iter().map(|_| None).collect())
        })
        .unwrap();
        let proxy = Checkpoint::open(at).unwrap();
        let model = Model::load(&proxy, &Device::flex()).unwrap();
        let adapters = stirred(&model, options, 1);
        let tuned = Self { dir, foundation, plan, proxy, adapters };
        let (sites, config) = (model.linear_sites(), Default::default());
        let record = AdapterRecord {
            foundation: tuned.foundation.fingerprint().clone(),
            trained_on: tuned.proxy.fingerprint().clone(),
            plan: Some(tuned.plan.hash()),
            map: SiteMap::tuned(&tuned.adapters, sites, true),
            ..record()
        };
        save(&tuned.path(), &tuned.adapters, sites, &config, Some(&record)).unwrap();
        tuned
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("adapter")
    }

    fn mounted(&self, plan: Option<&Plan>) -> Result<LoadedAdapter, AdapterError> {
        let model = Model::load(&self.foundation, &Device::flex()).unwrap();
        load_with_plan(&self.path(), &model, self.foundation.fingerprint(), plan, &Device::flex())
    }
}

fn numbers(lora: &Lora) -> Vec<f32> {
    [floats(lora.a.clone()), floats(lora.b.clone()), vec![lora.scale]].concat()
}

#[test]
fn an_update_of_a_kept_expert_sits_at_its_hosts_number() {
    let tuned = Tuned::new(&targets([EXPERTS, "q_proj"]));
    let mounted = tuned.mounted(Some(&tuned.plan)).unwrap();
    assert_eq!(mounted.record.unwrap().map, SiteMap::Host);
    // Two kept experts in each of two blocks, and three blocks of attention; absorbed and pruned experts have no LoRA.
    assert_eq!(
        (mounted.mounted.adapters.len(), tuned.adapters.len()),
        (2 * 2 * 3 + 3, 2 * 2 * 3 + 3)
    );
    for block in [0, 2] {
        for (expert, centroid) in [(0, 1), (1, 3)] {
            for leaf in ["gate_proj", "up_proj", "down_proj"] {
                let path = |expert| format!("model.layers.{block}.mlp.experts.{expert}.{leaf}");
                let [ours, moved] = [
                    tuned.adapters.at(&path(expert)),
                    mounted.mounted.adapters.at(&path(centroid)),
                ]
                .map(|adapter| adapter.map(litemoe_core::Adapter::lora))
                .map(|lora| numbers(lora.unwrap()));
                assert_eq!(ours, moved, "{}", path(centroid));
            }
        }
    }
    for (site, lora) in tuned.adapters.loras().filter(|(site, _)| site.leaf() == "q_proj") {
        assert_eq!(
            numbers(lora),
            numbers(mounted.mounted.adapters.at(site.as_str()).unwrap().lora())
        );
    }
}

/// The proxy of a plan that keeps every expert is the foundation.
#[test]
fn an_adapter_of_a_proxy_that_keeps_everything_is_the_foundations() {
    let foundation = Checkpoint::open(golden("base")).unwrap();
    let all = LayerPlan {
        n_experts: 4,
        groups: (0..4).map(Group::single).collect(),
        removed: Vec::new(),
    };
    let layers = [0, 2].map(|block| (LayerId::decoder(block), all.clone()));
    let plan = Plan { layers: layers.into(), ..plan(&foundation) };
    let tuned = Tuned::by(foundation, plan, &targets([EXPERTS, "gate", "q_proj"]));
    assert_eq!(tuned.proxy.fingerprint(), tuned.foundation.fingerprint());
    let model = model();
    for plan in [Some(&tuned.plan), None] {
        let loaded = tuned.mounted(plan).unwrap();
        assert!(same_bits(&loaded.mounted.adapters, &tuned.adapters));
        let target = tuned.dir.path().join("mounted");
        let (sites, record) = (model.linear_sites(), loaded.record.as_ref());
        save(&target, &loaded.mounted.adapters, sites, &loaded.config, record).unwrap();
        let again = load(&target, &model, tuned.foundation.fingerprint()).unwrap();
        assert!(same_bits(&again.mounted.adapters, &tuned.adapters));
    }
}

#[test]
fn a_mounted_adapter_is_the_foundations_alone() {
    let tuned = Tuned::new(&targets([EXPERTS]));
    let model = model();
    let loaded = tuned.mounted(Some(&tuned.plan)).unwrap();
    let target = tuned.dir.path().join("mounted");
    let (sites, record) = (model.linear_sites(), loaded.record.as_ref());
    save(&target, &loaded.mounted.adapters, sites, &loaded.config, record).unwrap();
    let again = load(&target, &model, tuned.foundation.fingerprint()).unwrap();
    assert!(same_bits(&again.mounted.adapters, &loaded.mounted.adapters));
    let error = load(&target, &model, tuned.proxy.fingerprint()).unwrap_err();
    assert!(matches!(error, AdapterError::OtherExperts { .. }), "{error}");
    // The record names the plan it was mapped by, and that plan is still accepted.
    let again = load_with_plan(
        &target,
        &model,
        tuned.foundation.fingerprint(),
        Some(&tuned.plan),
        &Device::flex(),
    );
    assert!(same_bits(&again.unwrap().mounted.adapters, &loaded.mounted.adapters));
}

/// The router of a `drop_rows` proxy has the centroids' rows alone.
#[test]
fn an_update_of_a_router_has_its_outputs_at_the_hosts_numbers() {
    let tuned = Tuned::new(&targets(["gate", "q_proj"]));
    assert!(matches!(tuned.mounted(None).unwrap_err(), AdapterError::PlanNeeded { .. }));
    let loaded = tuned.mounted(Some(&tuned.plan)).unwrap();
    assert_eq!(loaded.record.unwrap().map, SiteMap::Host);
    let adapters = loaded.mounted.adapters;
    for block in [0, 2] {
        let site = format!("model.layers.{block}.mlp.gate");
        let of = |adapters: &Adapters| adapters.at(&site).unwrap().lora().clone();
        let (ours, moved) = (of(&tuned.adapters), of(&adapters));
        assert_eq!(floats(ours.a), floats(moved.a));
        let (ours, moved) = (floats(ours.b), floats(moved.b));
        assert_eq!((ours.len(), moved.len()), (8 * 2, 8 * 4));
        for (ours, moved) in ours.chunks(2).zip(moved.chunks(4)) {
            assert_eq!(moved, [0.0, ours[0], 0.0, ours[1]]);
        }
    }
    // Restricted to the kept experts, the foundation computes what the proxy does.
    let proxy = Model::load(&tuned.proxy, &Device::flex()).unwrap();
    let input = Input::decoder(vec![vec![5, 17, 90, 3, 44, 8]]);
    let of_proxy = floats(proxy.logits(&input, &mut Pass::adapted(&tuned.adapters)));
    let router_bias = KeptExperts::of_plan(&tuned.plan).router_bias(MountRouting::Restricted);
    let mounted = MountedAdapter { adapters, router_bias };
    let found = floats(model().logits(&input, &mut Pass::mounted(Some(&mounted))));
    assert!(distance(&found, &of_proxy) < 2e-5);
    let bare = MountedAdapter { adapters: Adapters::default(), ..mounted };
    let bare = floats(model().logits(&input, &mut Pass::mounted(Some(&bare))));
    assert!(distance(&bare, &of_proxy) > 0.01);
}

#[test]
fn a_router_of_another_number_of_experts_is_refused() {
    let tuned = Tuned::new(&targets(["gate"]));
    let mut plan = tuned.plan.clone();
    plan.layers.get_mut(&LayerId::decoder(0)).unwrap().groups.pop();
    let error = to_foundation(&tuned.adapters, model().linear_sites(), &plan).unwrap_err();
    let is_named = |site: &Site| site.as_str() == "model.layers.0.mlp.gate";
    assert!(
        matches!(&error, AdapterError::SiteShape { site, found: [_, 2], expected: [_, 1] } if is_named(site)),
        "{error}"
    );
}

#[test]
fn without_its_plan_an_adapter_of_experts_is_the_proxys_alone() {
    let tuned = Tuned::new(&targets([EXPERTS]));
    let proxy = Model::load(&tuned.proxy, &Device::flex()).unwrap();
    let own = load(&tuned.path(), &proxy, tuned.proxy.fingerprint()).unwrap();
    assert!(same_bits(&own.mounted.adapters, &tuned.adapters));
    let error = load(&tuned.path(), &model(), tuned.foundation.fingerprint()).unwrap_err();
    assert!(matches!(error, AdapterError::OtherExperts { .. }), "{error}");
    let error = tuned.mounted(None).unwrap_err();
    assert!(matches!(&error, AdapterError::PlanNeeded { plan } if *plan == tuned.plan.hash()));
    let mut other = tuned.plan.clone();
    other.layers.get_mut(&LayerId::decoder(0)).unwrap().groups[0].centroid = 0;
    let error = tuned.mounted(Some(&other)).unwrap_err();
    assert!(matches!(error, AdapterError::OtherPlan { .. }), "{error}");
}

#[test]
fn elsewhere_sites_are_the_same_and_a_plan_is_only_checked() {
    let tuned = Tuned::new(&attention());
    for plan in [None, Some(&tuned.plan)] {
        let mounted = tuned.mounted(plan).unwrap();
        assert!(same_bits(&mounted.mounted.adapters, &tuned.adapters));
        assert_eq!(mounted.record.unwrap().map, SiteMap::Identity);
    }
    let other = Plan { input_sha256: "other".to_owned(), ..tuned.plan.clone() };
    assert!(matches!(tuned.mounted(Some(&other)).unwrap_err(), AdapterError::OtherPlan { .. }));
}

#[test]
fn an_adapter_that_no_proxy_was_tuned_for_has_no_plan() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let target = dir.path().join("adapter");
    let foundation = Checkpoint::open(golden("base")).unwrap();
    let adapters = random_adapters(&model, 0);
    save(&target, &adapters, model.linear_sites(), &Default::default(), None).unwrap();
    let plan = plan(&foundation);
    let mount = |target: &Path| {
        load_with_plan(target, &model, foundation.fingerprint(), Some(&plan), &Device::flex())
            .unwrap_err()
    };
    assert!(matches!(mount(&target), AdapterError::NoProxy));
}

#[test]
fn an_expert_that_the_plan_does_not_keep_is_named() {
    let model = model();
    let third = |(site, _): &(&Site, &Lora)| site.as_str().contains("layers.0.mlp.experts.2.");
    let all = stirred(&model, &targets([EXPERTS]), 0);
    let third: Adapters =
        all.loras().filter(third).map(|(site, lora)| (site.clone(), lora.clone())).collect();
    let plan = plan(&Checkpoint::open(golden("base")).unwrap());
    let error = to_foundation(&third, model.linear_sites(), &plan).unwrap_err();
    let is_named = matches!(error, AdapterError::ExpertNotKept { expert: 2, kept: 2, .. });
    assert!(is_named, "{error}");
}

/// A proxy's stacks have as many entries as it has experts.
#[test]
fn an_adapter_of_a_proxys_stacks_is_mounted_on_the_foundations() {
    let dir = litemoe_fixtures::tiny_dir().with_file_name("gpt_oss");
    let foundation = Checkpoint::open(dir).unwrap();
    let kept: [&[usize]; 3] = [&[1, 4], &[0, 5], &[3, 4]];
    let mut plan = plan(&foundation);
    let layer = |centroids: &&[usize]| LayerPlan {
        n_experts: 6,
        groups: centroids.iter().map(|&centroid| Group::single(centroid)).collect(),
        removed: (0..6).filter(|expert| !centroids.contains(expert)).collect(),
    };
    plan.layers = (0..).map(LayerId::decoder).zip(kept.iter().map(layer)).collect();
    let tuned = Tuned::by(foundation, plan, &targets([EXPERTS]));
    assert_eq!(tuned.adapters.len(), 3 * 2 * 3);
    let mounted = tuned.mounted(Some(&tuned.plan)).unwrap().mounted.adapters;
    assert_eq!(mounted.len(), tuned.adapters.len());
    for (block, centroids) in kept.iter().enumerate() {
        for (expert, centroid) in centroids.iter().enumerate() {
            let of = |adapters: &Adapters, expert: usize| {
                let site = format!("model.layers.{block}.mlp.experts.{expert}.up_proj");
                numbers(adapters.at(&site).unwrap().lora())
            };
            assert_eq!(of(&tuned.adapters, expert), of(&mounted, *centroid), "{block} {centroid}");
        }
    }
}

/// Encoder and decoder layers of the same index are different layers.
#[test]
fn both_stacks_of_an_encoder_decoder_are_mapped() {
    let dir = litemoe_fixtures::tiny_dir().with_file_name("switch_transformers");
    let model = Model::load(&Checkpoint::open(dir).unwrap(), &Device::flex()).unwrap();
    let mut plan = plan(&Checkpoint::open(golden("base")).unwrap());
    plan.layers.clear();
    for layer in model.moe_layers() {
        let centroid = match layer.id {
            id if id == LayerId::encoder(id.block) => 1,
            _ => 2,
        };
        let groups = vec![Group::single(centroid)];
        plan.layers.insert(layer.id, LayerPlan { n_experts: 4, groups, removed: Vec::new() });
    }
    let first = stirred(&model, &targets(["expert_0.wi"]), 0);
    let moved = to_foundation(&first, model.linear_sites(), &plan).unwrap();
    assert_eq!(moved.len(), model.moe_layers().len());
    for (site, _) in moved.loras() {
        let centroid =
            if site.as_str().starts_with("encoder") { "expert_1.wi" } else { "expert_2.wi" };
        assert!(site.as_str().ends_with(centroid), "{site}");
    }
}

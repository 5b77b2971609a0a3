//! Gradients reach a LoRA adapter at every site.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    Adapters, ExpertId, LanguageModel, LayerId, LinearRole, LinearSite, Lora, MoeModel, Observer,
    Pass, Routing, Site,
};
use litemoe_model::Model;

use crate::setup::{TINY, input, load, random_adapters, row, tiny};

fn tracked_adapters(model: &Model, device: &Device) -> Adapters {
    let track = |(site, lora): (&Site, &Lora)| {
        let (a, b) = (lora.a.clone().require_grad(), lora.b.clone().require_grad());
        (site.clone(), Lora { a, b, scale: lora.scale })
    };
    random_adapters(model, 0.35, 0.5, device).loras().map(track).collect()
}

/// A loss that depends on every logit of some rows.
fn loss(model: &Model, adapters: &Adapters) -> Tensor<1> {
    let input = input(model, &[row(12), row(5)]);
    let logits = model.logits(&input, &mut Pass::adapted(adapters));
    logits.square().mean()
}

/// Experts that received a token.
#[derive(Default)]
struct Met(BTreeSet<ExpertId>);

impl Observer for Met {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let experts = routing.experts.to_data();
        self.0.extend(experts.iter::<i64>().map(|expert| layer.expert(expert as usize)));
    }

    fn wants_activations(&self) -> bool {
        false
    }
}

#[test]
fn every_site_is_in_the_sum_and_has_a_gradient() {
    let device = Device::flex().autodiff();
    for name in TINY {
        let model = load(tiny(name));
        let adapters = tracked_adapters(&model, &device);
        let mut met = Met::default();
        let pass = &mut Pass::observed(&mut met).with_adapters(Some(&adapters));
        let logits = model.logits(&input(&model, &[row(12), row(5)]), pass);
        let gradients = logits.square().mean().backward();
        for linear in model.linear_sites() {
            let lora = adapters.at(linear.site.as_str()).unwrap().lora();
            let is_met = match linear.role {
                LinearRole::Expert { expert, .. } => met.0.contains(&expert),
                _ => true,
            };
            for matrix in [&lora.a, &lora.b] {
                let largest = matrix.grad(&gradients).map(|it| it.max_abs().into_scalar::<f32>());
                let seen = largest.filter(|&largest| largest > 1e-7 && largest.is_finite());
                assert_eq!(seen.is_some(), is_met, "{name}: {}: {largest:?}", linear.site);
            }
        }
    }
}

#[test]
fn gradients_are_slopes() {
    let device = Device::flex().autodiff();
    for name in TINY {
        let model = load(tiny(name));
        let is_router = |linear: &&LinearSite| matches!(linear.role, LinearRole::Router { .. });
        let routers = model.linear_sites().iter().filter(is_router);
        let routers: BTreeSet<&Site> = routers.map(|linear| &linear.site).collect();
        // Without routers, whose choices would change with the step.
        let all = tracked_adapters(&model, &device);
        let rest = all.loras().filter(|(site, _)| !routers.contains(site));
        let adapters: Adapters = rest.map(|(site, lora)| (site.clone(), lora.clone())).collect();
        let gradients = loss(&model, &adapters).backward();
        // The first block's queries affect everything after them.
        let site = &model.linear_sites()[0].site;
        let lora = adapters.at(site.as_str()).unwrap().lora();
        let slope: f32 = lora.b.grad(&gradients).unwrap().slice([0..1, 0..1]).into_scalar();
        let moved = |by: f32| -> f64 {
            let step = Tensor::<2>::zeros(lora.b.dims(), &Device::flex());
            let step = step.slice_fill([0..1, 0..1], by);
            let b = lora.b.clone().detach() + step;
            let mut moved = adapters.clone();
            moved.insert(site.clone(), Lora { b, ..lora.clone() });
            f64::from(loss(&model, &moved).into_scalar::<f32>())
        };
        // A step so small that no token changes its experts.
        let measured = (moved(0.005) - moved(-0.005)) / 0.01;
        let slope = f64::from(slope);
        assert!((slope - measured).abs() < 0.02 * slope.abs() + 2e-5, "{name}: {slope} {measured}");
    }
}

#[test]
fn an_adapter_of_zeros_changes_nothing_and_another_does() {
    let device = Device::flex().autodiff();
    let model = load(tiny("windowed"));
    let adapters = tracked_adapters(&model, &device);
    let plain: f32 = loss(&model, &Adapters::default()).into_scalar();
    assert_eq!(plain, loss(&model, &adapters.scaled(0.0)).into_scalar::<f32>());
    assert!((plain - loss(&model, &adapters).into_scalar::<f32>()).abs() > 1e-3);
}

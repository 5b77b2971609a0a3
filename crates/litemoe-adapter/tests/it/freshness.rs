use burn::tensor::Device;
use litemoe_adapter::{AdapterError, LoraOptions, init_lora, target_sites};
use litemoe_core::{Adapters, Input, LanguageModel, LinearRole, LinearSite, MoeModel, Pass, Site};
use proptest::prelude::*;

use crate::fixture::{floats, model, same_bits};

fn site(path: &str, d_in: usize, d_out: usize) -> LinearSite {
    LinearSite {
        site: Site::new(path),
        role: LinearRole::Attention,
        d_in,
        d_out,
        stack: None,
        parameter: None,
    }
}

fn adapters(sites: &[LinearSite], options: &LoraOptions, seed: u64) -> Adapters {
    init_lora(sites, options, seed, &Device::flex()).unwrap()
}

#[test]
fn a_fresh_adapter_is_the_identity_bit_for_bit() {
    let model = model();
    let adapters = adapters(model.linear_sites(), &LoraOptions::default(), 5);
    let input = Input::decoder(vec![vec![5, 17, 90], vec![3, 44, 61, 8]]);
    let plain = floats(model.logits(&input, &mut Pass::plain()));
    assert_eq!(floats(model.logits(&input, &mut Pass::adapted(&adapters))), plain);
    assert_eq!(adapters.len(), 36);
}

#[test]
fn values_are_the_same_on_every_platform() {
    let adapters =
        adapters(&[site("x.q_proj", 4, 3)], &LoraOptions { rank: 1, ..only("q_proj") }, 7);
    let lora = adapters.at("x.q_proj").unwrap().lora();
    assert_eq!(floats(lora.a.clone()), GOLDEN);
    assert_eq!((lora.scale, floats(lora.b.clone())), (16.0, vec![0.0; 3]));
}

const GOLDEN: [f32; 4] = [0.121824086, -0.10284746, 0.28521538, 0.24127692];

fn only(target: &str) -> LoraOptions {
    LoraOptions { targets: vec![target.to_owned()], ..LoraOptions::default() }
}

#[test]
fn whole_components_are_matched() {
    let sites =
        [site("l.0.attn.q_proj", 2, 2), site("l.0.attn.xq_proj", 2, 2), site("q_proj", 2, 2)];
    assert_eq!(adapters(&sites, &only("q_proj"), 0).len(), 2);
    assert_eq!(adapters(&sites, &only("attn.q_proj"), 0).len(), 1);
}

#[test]
fn an_unknown_target_is_refused_with_the_known_ones() {
    let sites = [site("l.0.q_proj", 2, 2), site("l.1.q_proj", 2, 2), site("l.1.up_proj", 2, 2)];
    let error = init_lora(&sites, &only("qproj"), 0, &Device::flex()).unwrap_err();
    assert!(matches!(error, AdapterError::UnknownTarget { .. }));
    let message = "no linear weight of the model matches the target `qproj`; known targets: q_proj, up_proj, attention";
    assert_eq!(error.to_string(), message);
}

#[test]
fn options_out_of_range_are_refused() {
    let bad = [
        (LoraOptions { rank: 0, ..only("q_proj") }, "rank is 0, but must be at least 1"),
        (
            LoraOptions { alpha: 0.0, ..only("q_proj") },
            "alpha is 0.0, but must be a number above 0 whose scale, alpha/rank, is finite in f32",
        ),
        (
            LoraOptions { alpha: 1e40, ..only("q_proj") },
            "alpha is 1e40, but must be a number above 0 whose scale, alpha/rank, \
             is finite in f32",
        ),
    ];
    for (options, message) in bad {
        let error = init_lora(&[site("q_proj", 2, 2)], &options, 0, &Device::flex()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn ranks_above_every_target_are_refused() {
    let (sites, options) = ([site("a.q_proj", 9, 3), site("a.k_proj", 4, 5)], only("q_proj"));
    let checked = |rank, options: LoraOptions| {
        let options = LoraOptions { rank, ..options };
        options.check_ranks(&target_sites(&sites, &options)?)
    };
    assert!(checked(3, options.clone()).is_ok() && checked(4, LoraOptions::default()).is_ok());
    let error = checked(4, options).unwrap_err();
    assert_eq!(error.to_string(), "rank is 4, but no targeted matrix has a rank above 3");
    assert!(checked(5, LoraOptions::default()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn values_lie_within_the_bound_and_differ_by_seed_and_site(d_in in 1usize..40, rank in 1usize..9, seed: u64) {
        let sites = [site("a.q_proj", d_in, 3), site("b.q_proj", d_in, 3)];
        let options = LoraOptions { rank, ..only("q_proj") };
        let made = adapters(&sites, &options, seed);
        let values = |adapters: &Adapters, path| floats(adapters.at(path).unwrap().lora().a.clone());
        let bound = 1.0 / (d_in as f32).sqrt() * 1.000_001;
        prop_assert!(values(&made, "a.q_proj").iter().all(|value| value.abs() <= bound));
        prop_assert_ne!(values(&made, "a.q_proj"), values(&made, "b.q_proj"));
        let other = adapters(&sites, &options, seed.wrapping_add(1));
        prop_assert_ne!(values(&made, "a.q_proj"), values(&other, "a.q_proj"));
    }

    #[test]
    fn a_site_does_not_depend_on_the_others(seed: u64) {
        let sites = [site("a.q_proj", 5, 3), site("b.q_proj", 4, 3)];
        let both = adapters(&sites, &only("q_proj"), seed);
        let one = adapters(&sites[1..], &only("q_proj"), seed);
        let kept: Adapters = both.loras().skip(1).map(|(site, lora)| (site.clone(), lora.clone())).collect();
        prop_assert!(same_bits(&kept, &one));
    }
}

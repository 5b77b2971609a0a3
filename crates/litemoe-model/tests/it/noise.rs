//! Router noise on the router logits.

use burn::tensor::Device;
use litemoe_core::{LanguageModel, Pass, RouterNoise, RouterRule};
use litemoe_model::{Checkpoint, Model, write_proxy};

use crate::setup::{TINY, copies, error, input, keep, load, logits, plan, row, tiny, values};

fn noisy(model: &Model, rows: &[Vec<u32>], std: f32, seeds: &[u64]) -> Vec<f32> {
    let noise = RouterNoise { std, seeds: seeds.to_vec() };
    let mut pass = Pass { router_noise: Some(&noise), ..Pass::plain() };
    values(&model.logits(&input(model, rows), &mut pass))
}

#[test]
fn it_moves_the_logits_and_none_of_it_does_not() {
    for name in TINY {
        let (model, rows) = (load(tiny(name)), [row(12), row(5)]);
        let plain = logits(&model, &rows);
        assert_eq!(noisy(&model, &rows, 0.0, &[1, 2]), plain);
        assert!(error(&noisy(&model, &rows, 1.0, &[1, 2]), &plain) > 1e-2, "{name}");
    }
}

#[test]
fn a_rows_noise_does_not_depend_on_the_others() {
    let (model, rows) = (load(tiny("qwen3_moe")), [row(12), row(5)]);
    let together = noisy(&model, &rows, 1.0, &[1, 2]);
    let alone = [noisy(&model, &rows[..1], 1.0, &[1]), noisy(&model, &rows[1..], 1.0, &[2])];
    assert!(error(&together, &alone.concat()) < 2e-5);
}

#[test]
fn a_proxy_that_keeps_the_router_has_noise_on_all_its_rows() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    for rule in [RouterRule::Redirect, RouterRule::RedirectSelected, RouterRule::DropRows] {
        let plan = plan(&checkpoint, rule, |layer| keep(layer.n_experts, &[0, 2, 3]));
        let dir = tempfile::tempdir().unwrap();
        let proxy = dir.path().join("proxy");
        write_proxy(&checkpoint, &plan, &proxy, &mut copies).unwrap();
        let model = Model::load(&Checkpoint::open(&proxy).unwrap(), &Device::flex()).unwrap();
        let rows = [row(9)];
        assert!(error(&noisy(&model, &rows, 1.0, &[3]), &logits(&model, &rows)) > 1e-3, "{rule}");
    }
}

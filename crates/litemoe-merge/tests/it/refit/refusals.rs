//! Errors that a refit returns before it computes anything.

use burn::tensor::Device;
use litemoe_core::{LanguageModel, RouterRule};
use litemoe_merge::{LayerRefit, MergeError, RefitOptions, refit};
use litemoe_model::Model;

use super::models::{Pair, checkpoint};

fn refused(foundation: &Model, proxy: &Model, rows: &[Vec<u32>], options: &RefitOptions) -> String {
    let mut take = |layer: LayerRefit| panic!("{layer:?}");
    refit(foundation, proxy, rows, options, &mut take, |_| ()).unwrap_err().to_string()
}

#[test]
fn rows_that_the_model_cannot_take() {
    let Pair { foundation, proxy, .. } = &Pair::new("qwen3_moe", RouterRule::DropRows);
    let options = RefitOptions::default();
    let refused = |rows: &[Vec<u32>]| refused(foundation, proxy, rows, &options);
    assert_eq!(refused(&[]), MergeError::NoRows.to_string());
    assert_eq!(refused(&[vec![1], vec![]]), MergeError::EmptyRow { row: 1 }.to_string());
    let (token, vocab) = (512, proxy.vocab());
    let unknown = MergeError::UnknownToken { row: 0, token, vocab };
    assert_eq!(refused(&[vec![1, token]]), unknown.to_string());
    let long = vec![1; proxy.max_tokens() + 1];
    assert!(refused(&[long]).contains("takes at most"));
}

#[test]
fn options_out_of_range() {
    let Pair { foundation, proxy, .. } = &Pair::new("qwen3_moe", RouterRule::DropRows);
    for ridge in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = RefitOptions { ridge, ..RefitOptions::default() };
        let named = MergeError::Ridge { ridge }.to_string();
        assert_eq!(refused(foundation, proxy, &[vec![1]], &options), named);
    }
    let options = RefitOptions { batch: 0, ..RefitOptions::default() };
    let named = MergeError::EmptyBatch.to_string();
    assert_eq!(refused(foundation, proxy, &[vec![1]], &options), named);
}

#[test]
fn models_that_are_no_foundation_and_proxy() {
    let load = |name| Model::load(&checkpoint(name), &Device::flex()).unwrap();
    let (rows, options) = ([vec![1]], RefitOptions::default());
    let other = refused(&load("qwen3_moe"), &load("olmoe"), &rows, &options);
    assert_eq!(other, MergeError::OtherProxy.to_string());
    let switch = load("switch_transformers");
    assert_eq!(refused(&switch, &switch, &rows, &options), MergeError::Encoder.to_string());
}

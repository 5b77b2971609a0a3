//! KL divergence from a reference model against its definition.

use burn::tensor::Device;
use litemoe_adapter::{AdapterError, RowDivergence, evaluate_divergence, evaluate_rows};
use litemoe_core::{Input, LanguageModel, MountedAdapter, Pass, Sequence, WeightDtype};
use litemoe_model::{Checkpoint, Model};

use crate::fixture::{floats, golden, model, random_adapters, rows};

fn packed(dtype: WeightDtype) -> Model {
    let checkpoint = Checkpoint::open(golden("base")).unwrap();
    Model::load_as(&checkpoint, &Device::flex(), dtype).unwrap()
}

fn run(
    reference: &Model,
    model: &Model,
    rows: &[Sequence],
    mounted: Option<&MountedAdapter>,
    batch_tokens: usize,
) -> Vec<RowDivergence> {
    evaluate_divergence(reference, model, rows, mounted, batch_tokens, &mut |_| ()).unwrap()
}

/// Probabilities after each token of a row.
fn probabilities(model: &Model, row: &Sequence, mounted: Option<&MountedAdapter>) -> Vec<Vec<f64>> {
    let input = Input::decoder(vec![row.tokens.clone()]);
    let logits = floats(model.logits(&input, &mut Pass::mounted(mounted)));
    let softmax = |logits: &[f32]| {
        let each: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let sum: f64 = each.iter().sum();
        each.into_iter().map(|each| each / sum).collect()
    };
    logits.chunks_exact(model.vocab()).map(softmax).collect()
}

fn most_probable(p: &[f64]) -> usize {
    (0..p.len()).rev().max_by(|&x, &y| p[x].total_cmp(&p[y])).unwrap()
}

/// KL of every token in the loss, and how many have the same arg-max, by definition.
fn by_definition(
    reference: &Model,
    model: &Model,
    row: &Sequence,
    mounted: Option<&MountedAdapter>,
) -> (Vec<f64>, u64) {
    let [p, q] = [reference, model].map(|model| probabilities(model, row, mounted));
    let covered = (1..row.tokens.len()).filter(|&token| row.completion[token]);
    let (mut kl, mut same) = (Vec::new(), 0);
    for (p, q) in covered.map(|token| (&p[token - 1], &q[token - 1])) {
        kl.push(p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum());
        same += u64::from(most_probable(p) == most_probable(q));
    }
    (kl, same)
}

#[test]
fn it_is_the_definition_in_every_format_and_batch() {
    let (reference, rows) = (model(), rows());
    let adapters: MountedAdapter = random_adapters(&reference, 3).into();
    let mut some_differ = false;
    for dtype in [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4] {
        let model = packed(dtype);
        for mounted in [None, Some(&adapters)] {
            // The last holds more tokens in the loss than are compared at once.
            for batch_tokens in [1, 50, 1000] {
                let found = run(&reference, &model, &rows, mounted, batch_tokens);
                let scores = [&reference, &model].map(|model| {
                    evaluate_rows(model, &rows, mounted, batch_tokens, &mut |_| ()).unwrap()
                });
                for (place, (row, found)) in rows.iter().zip(&found).enumerate() {
                    let (kl, same) = by_definition(&reference, &model, row, mounted);
                    assert_eq!((found.kl.len(), found.same_argmax), (kl.len(), same), "{dtype}");
                    for (found, expected) in found.kl.iter().zip(&kl) {
                        let error = (found - expected).abs();
                        assert!(error < 2e-3 * expected + 1e-7, "{dtype}: {found}, {expected}");
                    }
                    some_differ |= same < kl.len() as u64;
                    for (found, expected) in
                        [&found.reference, &found.model].into_iter().zip(&scores)
                    {
                        let expected = &expected[place];
                        assert!((found.nll - expected.nll).abs() < 1e-4 * expected.nll, "{dtype}");
                        assert_eq!((found.tokens, found.exact), (expected.tokens, expected.exact));
                    }
                }
                let kl: Vec<f64> = found.iter().flat_map(|row| row.kl.iter().copied()).collect();
                assert!(kl.iter().sum::<f64>() > 1e-6, "{dtype}: packing changes nothing");
            }
        }
    }
    assert!(some_differ, "no arg-max differs: nothing is shown");
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let (model, rows) = (model(), rows());
    let found = run(&model, &model, &rows, None, 1);
    for row in found {
        assert_eq!((row.kl.len() as u64, row.same_argmax), (row.model.tokens, row.model.tokens));
        assert!(row.kl.iter().all(|&kl| kl < 1e-9), "{:?}", row.kl);
    }
}

#[test]
fn a_streamed_reference_gives_the_same() {
    let (model, rows) = (packed(WeightDtype::Q4), rows());
    let checkpoint = Checkpoint::open(golden("base")).unwrap();
    let streamed = Model::stream(&checkpoint, &Device::flex()).unwrap();
    let loaded = run(&crate::fixture::model(), &model, &rows, None, 64);
    assert_eq!(run(&streamed, &model, &rows, None, 64), loaded);
}

#[test]
fn progress_counts_every_row_in_both_models() {
    let (model, mut seen) = (model(), Vec::new());
    let progress = &mut |done| seen.push(done);
    evaluate_divergence(&model, &model, &rows(), None, 64, progress).unwrap();
    assert!(seen.is_sorted() && seen.contains(&20) && seen.last() == Some(&40), "{seen:?}");
}

#[test]
fn rows_that_the_models_cannot_take_are_refused() {
    let model = model();
    let refused =
        |rows: &[Sequence]| evaluate_divergence(&model, &model, rows, None, 64, &mut |_| ());
    assert!(matches!(refused(&[]), Err(AdapterError::NoRows { .. })));
    let mut row = rows().swap_remove(0);
    row.tokens[0] = 1000;
    assert!(matches!(refused(&[row]), Err(AdapterError::Row { row: 0, .. })));
}

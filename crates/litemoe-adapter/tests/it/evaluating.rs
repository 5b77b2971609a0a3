use litemoe_adapter::{Evaluation, SCALES, choose_scale, evaluate, evaluate_rows};
use litemoe_core::{
    Adapters, CausalLm, Input, LanguageModel, Lora, Pass, Sampler, Sampling, Sequence, Site,
};
use proptest::prelude::*;

use crate::fixture::{floats, model, random_adapters, rows};

fn run<M: LanguageModel>(model: &M, rows: &[Sequence], adapters: Option<&Adapters>) -> Evaluation {
    evaluate(model, rows, adapters, 64, &mut |_| ()).unwrap()
}

fn close(x: &Evaluation, y: &Evaluation) -> bool {
    (x.nll_sum - y.nll_sum).abs() < 1e-5 * y.nll_sum.abs().max(1.0)
        && (x.tokens, x.exact_rows, x.rows) == (y.tokens, y.exact_rows, y.rows)
}

/// The definition, token by token, from the logits of every position.
fn by_definition(model: &impl LanguageModel, row: &Sequence) -> Evaluation {
    let input = Input::decoder(vec![row.tokens.clone()]);
    let logits = floats(model.logits(&input, &mut Pass::plain()));
    let at = |token: usize| &logits[(token - 1) * model.vocab()..token * model.vocab()];
    let covered: Vec<usize> =
        (1..row.tokens.len()).filter(|&token| row.completion[token]).collect();
    let nll = |&token: &usize| {
        let sum: f64 = at(token).iter().map(|&logit| f64::from(logit).exp()).sum();
        sum.ln() - f64::from(at(token)[row.tokens[token] as usize])
    };
    let exact = covered
        .iter()
        .all(|&token| Sampler::new(Sampling::default()).next(at(token)) == row.tokens[token]);
    let nll_sum = covered.iter().map(nll).sum();
    Evaluation { nll_sum, tokens: covered.len() as u64, exact_rows: u64::from(exact), rows: 1 }
}

#[test]
fn it_is_the_definition() {
    let model = model();
    for row in rows() {
        let expected = by_definition(&model, &row);
        assert!(close(&run(&model, std::slice::from_ref(&row), None), &expected));
    }
}

#[test]
fn every_row_has_its_own_result_in_its_own_place() {
    let (model, rows) = (model(), rows());
    let found = evaluate_rows(&model, &rows, None, 64, &mut |_| ()).unwrap();
    assert_eq!(found.len(), rows.len());
    for (row, found) in rows.iter().zip(&found) {
        assert!(close(&[*found].iter().sum(), &by_definition(&model, row)));
    }
    assert_eq!(found.iter().sum::<Evaluation>(), run(&model, &rows, None));
}

#[test]
fn a_greedy_continuation_is_exact() {
    let model = model();
    let mut row = rows().swap_remove(0);
    let mut cache = model.new_cache();
    let prompt = row.completion.iter().filter(|covered| !**covered).count();
    row.tokens.truncate(prompt);
    let mut logits = model.extend(&row.tokens, &mut cache, None);
    for _ in prompt..row.completion.len() {
        let next = Sampler::new(Sampling::default()).next(&floats(logits));
        row.tokens.push(next);
        logits = model.extend(&[next], &mut cache, None);
    }
    assert_eq!(run(&model, &[row.clone()], None).exact_rows, 1);
    row.tokens[prompt] = (row.tokens[prompt] + 1) % 128;
    assert_eq!(run(&model, &[row], None).exact_rows, 0);
}

#[test]
fn progress_counts_every_row() {
    let mut seen = Vec::new();
    evaluate(&model(), &rows(), None, 64, &mut |done| seen.push(done)).unwrap();
    assert!(seen.is_sorted() && seen.len() > 1);
    assert_eq!(seen.last(), Some(&20));
}

#[test]
fn the_guard_takes_the_lowest_loss_and_the_smaller_of_equals() {
    let (model, rows) = (model(), rows());
    let harmful = random_adapters(&model, 1).scaled(20.0);
    let guard = choose_scale(&model, &harmful, &rows, &SCALES, 64, &mut |_| ()).unwrap();
    let losses: Vec<f64> = guard.evaluations.iter().map(|(_, found)| found.loss()).collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let place = losses.iter().position(|&loss| loss == least).unwrap();
    assert_eq!(guard.scale, SCALES[place]);
    assert_eq!(guard.evaluations[0].1, run(&model, &rows, None));

    let zero = |(site, lora): (&Site, &Lora)| {
        (site.clone(), Lora { b: lora.b.zeros_like(), ..lora.clone() })
    };
    let nothing: Adapters = harmful.iter().map(zero).collect();
    let guard = choose_scale(&model, &nothing, &rows, &[1.0, 0.5, 0.0], 64, &mut |_| ()).unwrap();
    assert_eq!(guard.scale, 0.0);
}

#[test]
fn scales_that_are_none_are_refused() {
    let (model, rows) = (model(), rows());
    for scales in [&[][..], &[-0.5], &[f32::NAN]] {
        let error = choose_scale(&model, &Adapters::default(), &rows, scales, 64, &mut |_| ());
        assert!(error.unwrap_err().to_string().contains("none below 0"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn batching_and_order_do_not_show(batch_tokens in 1usize..400, turn in 0usize..20, seed in 0u64..4) {
        let model = model();
        let adapters = random_adapters(&model, seed);
        let mut rows = rows();
        let one_by_one = evaluate(&model, &rows, Some(&adapters), 1, &mut |_| ()).unwrap();
        rows.rotate_left(turn);
        let packed = evaluate(&model, &rows, Some(&adapters), batch_tokens, &mut |_| ()).unwrap();
        prop_assert!(close(&packed, &one_by_one));
        let again = evaluate(&model, &rows, Some(&adapters), batch_tokens, &mut |_| ()).unwrap();
        prop_assert_eq!(packed, again);
    }
}

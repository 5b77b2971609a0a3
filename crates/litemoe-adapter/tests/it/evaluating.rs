use litemoe_adapter::{Evaluation, evaluate, evaluate_rows};
use litemoe_core::{
    CausalLm, Input, LanguageModel, MountedAdapter, Pass, Sampler, Sampling, Sequence,
};
use proptest::prelude::*;

use crate::fixture::{floats, model, random_adapters, rows};

fn run<M: LanguageModel + Sync>(
    model: &M,
    rows: &[Sequence],
    mounted: Option<&MountedAdapter>,
) -> Evaluation {
    evaluate(model, rows, mounted, 64, &mut |_| ()).unwrap()
}

fn close(x: &Evaluation, y: &Evaluation) -> bool {
    (x.nll_sum - y.nll_sum).abs() < 1e-5 * y.nll_sum.abs().max(1.0)
        && (x.tokens, x.exact_rows, x.rows) == (y.tokens, y.exact_rows, y.rows)
}

/// Reference implementation: token by token, from the logits of every position.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn batching_and_order_do_not_show(batch_tokens in 1usize..400, turn in 0usize..20, seed in 0u64..4) {
        let model = model();
        let adapters = random_adapters(&model, seed).into();
        let mut rows = rows();
        let one_by_one = evaluate(&model, &rows, Some(&adapters), 1, &mut |_| ()).unwrap();
        rows.rotate_left(turn);
        let packed = evaluate(&model, &rows, Some(&adapters), batch_tokens, &mut |_| ()).unwrap();
        prop_assert!(close(&packed, &one_by_one));
        let again = evaluate(&model, &rows, Some(&adapters), batch_tokens, &mut |_| ()).unwrap();
        prop_assert_eq!(packed, again);
    }
}

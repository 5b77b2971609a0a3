use burn::tensor::Tensor;
use litemoe_core::{LanguageModel, MountedAdapter, Pass, Sequence};
use rayon::prelude::*;

use crate::AdapterError;
use crate::batch::{Batch, check_rows, n_input};
use crate::evaluate::{RowEvaluation, argmax, batches, floats, score_token};

/// Input tokens whose hidden states are in memory at once, unless one batch has more.
const HELD_TOKENS: usize = 1 << 16;

/// Tokens whose logits of both models are in memory at once.
const CHUNK: usize = 64;

/// Kullback–Leibler divergence of a row's next-token distributions from a reference model's, and both models' scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowDivergence {
    /// Scores of the reference model.
    pub reference: RowEvaluation,
    /// Scores of the model.
    pub model: RowEvaluation,
    /// Forward KL divergence KL(reference ‖ model) of each token in the loss, in nats.
    pub kl: Vec<f64>,
    /// Number of tokens in the loss for which both models have the same arg-max (ties: lower id).
    pub same_argmax: u64,
}

/// Kullback–Leibler divergence of a model's next-token distributions from those of a reference model, per row, in row
/// order, by one teacher-forced pass of each. An adapter is mounted on both.
///
/// Batches of up to 65 536 input tokens together run through the reference first, block by block, so that a model that
/// streams its weights reads each block once for all of them; then the model runs batch by batch. At most `batch_tokens`
/// input tokens are computed at once, unless one row is longer. `progress` receives the number of rows done, each counted
/// once per model.
///
/// # Errors
/// A row that a model cannot take, no rows, or a logit that is not finite.
///
/// # Panics
/// When the vocabularies differ.
pub fn evaluate_divergence<R, M>(
    reference: &R,
    model: &M,
    sequences: &[Sequence],
    mounted: Option<&MountedAdapter>,
    batch_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<RowDivergence>, AdapterError>
where
    R: LanguageModel + ?Sized,
    M: LanguageModel + ?Sized,
{
    assert_eq!(reference.vocab(), model.vocab(), "vocabularies of two models");
    check_rows(reference, "evaluation", sequences)?;
    check_rows(model, "evaluation", sequences)?;
    let order = batches(sequences, batch_tokens);
    let mut found = vec![RowDivergence::default(); sequences.len()];
    let mut done = 0;
    for order in groups(&order, sequences) {
        let batch = |rows: &Vec<usize>| Batch::new(rows.iter().map(|&row| &sequences[row]));
        let all: Vec<Batch> = order.iter().map(batch).collect();
        let n_rows: usize = order.iter().map(Vec::len).sum();
        let mut told = |share: f64| progress(done + (share * n_rows as f64) as usize);
        let expected = by_blocks(reference, &all, mounted, &mut told);
        done += n_rows;
        for ((rows, batch), expected) in order.iter().zip(&all).zip(expected) {
            let mut pass = Pass::mounted(mounted);
            let hidden = model.stream(&batch.input, &mut pass).select(&batch.positions);
            let pair = Pair { reference, model, mounted };
            let tokens = pair.compare(&expected, &hidden, &batch.targets);
            let mut tokens = tokens.into_iter();
            for (&row, &n) in rows.iter().zip(&batch.row_targets) {
                found[row] = of_row(tokens.by_ref().take(n))
                    .map_err(|logit| AdapterError::EvaluationNotFinite { row, logit })?;
            }
            done += rows.len();
            progress(done);
        }
    }
    Ok(found)
}

/// Consecutive batches of up to [`HELD_TOKENS`] input tokens together, at least one.
fn groups<'a>(order: &'a [Vec<usize>], sequences: &[Sequence]) -> Vec<&'a [Vec<usize>]> {
    let n_tokens =
        |rows: &Vec<usize>| -> usize { rows.iter().map(|&row| n_input(&sequences[row])).sum() };
    let (mut groups, mut start, mut held) = (Vec::new(), 0, 0);
    for (at, rows) in order.iter().enumerate() {
        let n = n_tokens(rows);
        if held + n > HELD_TOKENS && at > start {
            groups.push(&order[start..at]);
            (start, held) = (at, 0);
        }
        held += n;
    }
    groups.push(&order[start..]);
    groups
}

/// Hidden states before the head of each batch's tokens that predict one in the loss. `progress` receives the share of
/// blocks that have run.
fn by_blocks<M: LanguageModel + ?Sized>(
    model: &M,
    batches: &[Batch],
    mounted: Option<&MountedAdapter>,
    progress: &mut dyn FnMut(f64),
) -> Vec<Tensor<2>> {
    let mut streams: Vec<_> = batches.iter().map(|batch| model.embed(&batch.input)).collect();
    for block in 0..model.n_blocks() {
        for stream in &mut streams {
            let after = model.block(block, stream.clone(), &mut Pass::mounted(mounted));
            *stream = after.waiting();
        }
        progress((block + 1) as f64 / model.n_blocks() as f64);
    }
    model.release();
    let selected = streams.into_iter().zip(batches);
    selected.map(|(stream, batch)| stream.select(&batch.positions)).collect()
}

/// Comparison of one token, or the first logit that is not finite.
type TokenDivergence = Result<Token, f32>;

/// Negative log-likelihood and whether the target is the arg-max, in the reference and the model.
struct Token {
    reference: (f64, bool),
    model: (f64, bool),
    kl: f64,
    same_argmax: bool,
}

/// The two models.
struct Pair<'a, R: ?Sized, M: ?Sized> {
    reference: &'a R,
    model: &'a M,
    mounted: Option<&'a MountedAdapter>,
}

impl<R: LanguageModel + ?Sized, M: LanguageModel + ?Sized> Pair<'_, R, M> {
    /// Compares the distributions of hidden states of both models, `[n, d_model]`, in chunks.
    fn compare(
        &self,
        reference: &Tensor<2>,
        model: &Tensor<2>,
        targets: &[u32],
    ) -> Vec<TokenDivergence> {
        let vocab = self.model.vocab();
        let mut tokens = Vec::with_capacity(targets.len());
        for (at, targets) in targets.chunks(CHUNK).enumerate() {
            let part = |hidden: &Tensor<2>| hidden.clone().narrow(0, at * CHUNK, targets.len());
            let expected = self.reference.head(part(reference), &mut Pass::mounted(self.mounted));
            let found = self.model.head(part(model), &mut Pass::mounted(self.mounted));
            let (expected, found) = (floats(expected), floats(found));
            let places = expected.par_chunks_exact(vocab).zip(found.par_chunks_exact(vocab));
            let each = places.zip(targets);
            let each = each.map(|((expected, found), &target)| compare(expected, found, target));
            tokens.par_extend(each);
        }
        tokens
    }
}

fn compare(reference: &[f32], model: &[f32], target: u32) -> TokenDivergence {
    if let Some(&logit) = reference.iter().chain(model).find(|logit| !logit.is_finite()) {
        return Err(logit);
    }
    Ok(Token {
        reference: score_token(reference, target as usize),
        model: score_token(model, target as usize),
        kl: kl(reference, model),
        same_argmax: argmax(reference) == argmax(model),
    })
}

/// KL(softmax(reference) ‖ softmax(model)) of logits, in f64.
fn kl(reference: &[f32], model: &[f32]) -> f64 {
    let [p, q] = [log_sum(reference), log_sum(model)];
    let term = |(&x, &y): (&f32, &f32)| {
        let (log_p, log_q) = (f64::from(x) - p, f64::from(y) - q);
        log_p.exp() * (log_p - log_q)
    };
    // The exact sum is not negative.
    reference.iter().zip(model).map(term).sum::<f64>().max(0.0)
}

/// Logarithm of the sum of exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let max = f64::from(logits[argmax(logits)]);
    logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln() + max
}

fn of_row(mut tokens: impl Iterator<Item = TokenDivergence>) -> Result<RowDivergence, f32> {
    let exact = RowEvaluation { exact: true, ..RowEvaluation::default() };
    let start = RowDivergence { reference: exact, model: exact, ..RowDivergence::default() };
    tokens.try_fold(start, |mut row, token| {
        let token = token?;
        row.reference.add(token.reference);
        row.model.add(token.model);
        row.kl.push(token.kl);
        row.same_argmax += u64::from(token.same_argmax);
        Ok(row)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_so_many_tokens_or_one_batch() {
        let row = |n: usize| Sequence {
            tokens: vec![0; n + 1],
            completion: [vec![false; n], vec![true]].concat(),
            encoder: None,
        };
        let sequences = [40_000, 20_000, 10_000, 70_000, 10, 20].map(row);
        let order: Vec<_> = (0..6).map(|row| vec![row]).collect();
        let found: Vec<usize> =
            groups(&order, &sequences).iter().map(|group| group.len()).collect();
        assert_eq!(found, [2, 1, 1, 2]);
    }

    #[test]
    fn divergence_of_two_coins() {
        let coin = |p: f64| [p.ln() as f32 + 3.0, (1.0 - p).ln() as f32 + 3.0];
        let expected = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!((kl(&coin(0.25), &coin(0.5)) - expected).abs() < 1e-6);
        assert_eq!(kl(&coin(0.3), &coin(0.3)), 0.0);
        // A distribution that is a point, within f64.
        assert!((kl(&[0.0, -1000.0], &[0.0, 0.0]) - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_logit_of_either_model_that_is_not_finite_is_told() {
        let (good, bad) = ([0.0, 1.0], [0.0, f32::NEG_INFINITY]);
        assert!(compare(&good, &good, 0).is_ok());
        assert_eq!(compare(&good, &bad, 0).err(), Some(f32::NEG_INFINITY));
        assert_eq!(compare(&bad, &good, 0).err(), Some(f32::NEG_INFINITY));
    }
}

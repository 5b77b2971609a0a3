use std::iter::Sum;

use burn::tensor::Tensor;
use litemoe_core::{LanguageModel, MountedAdapter, Pass, Sequence};
use serde::{Deserialize, Serialize};

use crate::AdapterError;
use crate::batch::{Batch, LOGITS_PER_CHUNK, check_rows, n_input};
use crate::workers::Workers;

/// Default number of tokens that an evaluation computes at once.
pub const BATCH_TOKENS: usize = 1024;

/// Batches in parallel. Not taken from the machine, because the size of a batch affects rounding.
const PARALLEL: usize = 2;

/// Negative log-likelihood and exact match of rows. All fields are sums, so evaluations of parts of the rows can be
/// added.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Evaluation {
    /// Negative log-likelihood: Σ −ln p over all tokens in the loss, in nats.
    pub nll_sum: f64,
    /// Number of tokens in the loss.
    pub tokens: u64,
    /// Exact match: rows whose every token in the loss is the arg-max given the tokens before it (ties: lower id), i.e.
    /// the rows that greedy decoding gets exactly right.
    pub exact_rows: u64,
    /// Number of rows.
    pub rows: u64,
}

impl Evaluation {
    /// Mean negative log-likelihood per token in the loss, in nats.
    pub fn loss(&self) -> f64 {
        self.nll_sum / self.tokens as f64
    }

    /// Perplexity: exp of [`Self::loss`].
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Exact-match accuracy: the share of exact rows, in [0, 1].
    pub fn accuracy(&self) -> f64 {
        self.exact_rows as f64 / self.rows as f64
    }

    fn add(&mut self, row: &RowEvaluation) {
        self.nll_sum += row.nll;
        self.tokens += row.tokens;
        self.exact_rows += u64::from(row.exact);
        self.rows += 1;
    }
}

impl<'a> Sum<&'a RowEvaluation> for Evaluation {
    fn sum<I: Iterator<Item = &'a RowEvaluation>>(rows: I) -> Self {
        rows.fold(Self::default(), |mut sum, row| {
            sum.add(row);
            sum
        })
    }
}

/// Negative log-likelihood and exact match of one row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowEvaluation {
    /// Negative log-likelihood: Σ −ln p over the tokens in the loss, in nats.
    pub nll: f64,
    /// Number of tokens in the loss.
    pub tokens: u64,
    /// Exact match: whether every token in the loss is the arg-max given the tokens before it (ties: lower id).
    pub exact: bool,
}

impl RowEvaluation {
    /// Adds a token in the loss: its negative log-likelihood, and whether it is the arg-max.
    pub(crate) fn add(&mut self, (nll, is_best): (f64, bool)) {
        self.nll += nll;
        self.tokens += 1;
        self.exact &= is_best;
    }
}

/// Negative log-likelihood and exact match of `sequences`: the sum of [`evaluate_rows`] in row order, so batching does
/// not affect it.
///
/// # Errors
/// Those of [`evaluate_rows`].
pub fn evaluate<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    sequences: &[Sequence],
    mounted: Option<&MountedAdapter>,
    batch_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation, AdapterError> {
    evaluate_with(&evaluation_workers(), model, sequences, mounted, batch_tokens, progress)
}

/// Thread pools of evaluations.
pub(crate) fn evaluation_workers() -> Workers {
    Workers::new(PARALLEL)
}

/// As [`evaluate`], in the same thread pools as other evaluations.
pub(crate) fn evaluate_with<M: LanguageModel + Sync + ?Sized>(
    workers: &Workers,
    model: &M,
    sequences: &[Sequence],
    mounted: Option<&MountedAdapter>,
    batch_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation, AdapterError> {
    Ok(rows_with(workers, model, sequences, mounted, batch_tokens, progress)?.iter().sum())
}

/// Negative log-likelihood and exact match per row, in row order, by one teacher-forced pass. At most `batch_tokens`
/// input tokens (rounded up to even) are computed at once, unless one row is longer: rows are grouped by length into
/// batches of half of that, and two batches run in parallel. A row longer than half is a batch of its own, which
/// runs next to another if both fit. `progress` receives the number of rows done.
///
/// # Errors
/// A row that the model cannot take, no rows, or a logit that is not finite.
pub fn evaluate_rows<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    sequences: &[Sequence],
    mounted: Option<&MountedAdapter>,
    batch_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<RowEvaluation>, AdapterError> {
    rows_with(&evaluation_workers(), model, sequences, mounted, batch_tokens, progress)
}

fn rows_with<M: LanguageModel + Sync + ?Sized>(
    workers: &Workers,
    model: &M,
    sequences: &[Sequence],
    mounted: Option<&MountedAdapter>,
    batch_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<RowEvaluation>, AdapterError> {
    check_rows(model, "evaluation", sequences)?;
    let mut scores = vec![RowEvaluation::default(); sequences.len()];
    let mut done = 0;
    let part_tokens = batch_tokens.div_ceil(PARALLEL);
    let batches = batches(sequences, part_tokens);
    for parts in at_once(sequences, &batches, part_tokens.saturating_mul(PARALLEL)) {
        let found = workers.run(&parts, |rows| {
            let batch = Batch::new(rows.iter().map(|&row| &sequences[row]));
            score_batch(model, &batch, mounted)
        });
        for (&row, score) in parts.into_iter().flatten().zip(found.into_iter().flatten()) {
            scores[row] =
                score.map_err(|logit| AdapterError::EvaluationNotFinite { row, logit })?;
            done += 1;
        }
        progress(done);
    }
    Ok(scores)
}

/// Batches of row indices, longest rows first, so that memory peaks at the start.
pub(crate) fn batches(sequences: &[Sequence], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(n_input(&sequences[row])));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for row in order {
        let len = n_input(&sequences[row]);
        if len > room || batches.is_empty() {
            batches.push(Vec::new());
            room = batch_tokens.max(len);
        }
        room -= len;
        batches.last_mut().expect("one was just pushed").push(row);
    }
    batches
}

/// Batches that are computed at once: at most [`PARALLEL`] successive ones, of `max_tokens` together or a single one.
fn at_once<'b>(
    sequences: &[Sequence],
    batches: &'b [Vec<usize>],
    max_tokens: usize,
) -> Vec<Vec<&'b [usize]>> {
    let mut groups: Vec<Vec<&[usize]>> = Vec::new();
    let mut room = 0;
    for batch in batches {
        let tokens: usize = batch.iter().map(|&row| n_input(&sequences[row])).sum();
        match groups.last_mut() {
            Some(group) if group.len() < PARALLEL && tokens <= room => group.push(batch),
            _ => {
                groups.push(vec![batch]);
                room = max_tokens;
            }
        }
        room = room.saturating_sub(tokens);
    }
    groups
}

/// Score of a row, or the first of its logits that is not finite.
type RowScore = Result<RowEvaluation, f32>;

fn score_batch<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    batch: &Batch,
    mounted: Option<&MountedAdapter>,
) -> Vec<RowScore> {
    let mut pass = Pass::mounted(mounted);
    let hidden = model.stream(&batch.input, &mut pass).select(&batch.positions);
    let per_chunk = (LOGITS_PER_CHUNK / model.vocab()).max(1);
    let mut tokens = Vec::with_capacity(batch.targets.len());
    // The logits are never there for all tokens.
    for (chunk, targets) in batch.targets.chunks(per_chunk).enumerate() {
        let hidden = hidden.clone().narrow(0, chunk * per_chunk, targets.len());
        let logits = floats(model.head(hidden, &mut pass));
        let logits = logits.chunks_exact(model.vocab());
        tokens.extend(logits.zip(targets).map(|(logits, &target)| check(logits, target)));
    }
    let mut tokens = tokens.into_iter();
    batch.row_targets.iter().map(|&n| score_row(tokens.by_ref().take(n))).collect()
}

/// Score of a target; an error is a logit that is not finite.
fn check(logits: &[f32], target: u32) -> Result<(f64, bool), f32> {
    match logits.iter().find(|logit| !logit.is_finite()) {
        Some(&logit) => Err(logit),
        None => Ok(score_token(logits, target as usize)),
    }
}

fn score_row(tokens: impl Iterator<Item = Result<(f64, bool), f32>>) -> RowScore {
    // All of the row's tokens are taken, also after an error.
    let tokens: Vec<_> = tokens.collect();
    let start = RowEvaluation { exact: true, ..RowEvaluation::default() };
    tokens.into_iter().try_fold(start, |mut row, token| {
        row.add(token?);
        Ok(row)
    })
}

/// Negative log-likelihood of the target, and whether the target is the arg-max.
pub(crate) fn score_token(logits: &[f32], target: usize) -> (f64, bool) {
    let best = argmax(logits);
    let max = logits[best];
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
    (sum.ln() + f64::from(max) - f64::from(logits[target]), best == target)
}

/// Arg-max; of equal values, the first.
pub(crate) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// A tensor's values in order.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("just converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Input tokens of the rows of each batch, by what is computed at once.
    fn groups(n_inputs: &[usize], batch_tokens: usize) -> Vec<Vec<Vec<usize>>> {
        let sequence = |&n: &usize| {
            let completion = (0..=n).map(|token| token == n).collect();
            Sequence { tokens: vec![0; n + 1], completion, encoder: None }
        };
        let sequences: Vec<Sequence> = n_inputs.iter().map(sequence).collect();
        let part_tokens = batch_tokens.div_ceil(PARALLEL);
        let batches = batches(&sequences, part_tokens);
        let lengths = |rows: &&[usize]| rows.iter().map(|&row| n_inputs[row]).collect();
        at_once(&sequences, &batches, part_tokens * PARALLEL)
            .iter()
            .map(|group| group.iter().map(lengths).collect())
            .collect()
    }

    #[test]
    fn a_row_has_no_score_if_any_logit_is_not_finite() {
        let score = |other: f32| score_row([check(&[1.0, other], 0)].into_iter());
        assert_eq!(score(1.0).map(|row| (row.tokens, row.exact)), Ok((1, true)));
        assert!((score(1.0).expect("finite").nll - 2f64.ln()).abs() < 1e-9);
        assert_eq!(score(f32::NEG_INFINITY), Err(f32::NEG_INFINITY));
        assert_eq!(score(f32::INFINITY), Err(f32::INFINITY));
        assert!(score(f32::NAN).is_err_and(f32::is_nan));
    }

    #[test]
    fn two_batches_at_once_have_at_most_batch_tokens() {
        let found = |n_inputs: &[usize]| groups(n_inputs, 20);
        assert_eq!(found(&[5, 5, 4, 5, 5]), [vec![vec![5, 5], vec![5, 5]], vec![vec![4]]]);
        assert_eq!(found(&[12, 12, 8]), [vec![vec![12]], vec![vec![12], vec![8]]]);
        assert_eq!(found(&[5, 5, 15]), [[[15].as_slice()], [&[5, 5]]]);
        assert_eq!(found(&[5, 30, 15]), [vec![vec![30]], vec![vec![15], vec![5]]]);
    }
}

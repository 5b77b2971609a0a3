//! KL divergence from the same model in another number format.

use anyhow::ensure;
use litemoe_adapter::{Evaluation, RowDivergence, RowEvaluation, evaluate_divergence};
use litemoe_core::{CacheDtype, LanguageModel, MountedAdapter, WeightDtype};
use litemoe_files::{keep_freed_memory, map_large_allocations};
use litemoe_model::Model;
use serde::{Deserialize, Serialize};

use super::test_rows::TestRows;
use crate::model::Loaded;
use crate::{output, progress};

/// Divergence from the reference, over the tokens in the loss of all rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Divergence {
    /// Number format of the reference's weights.
    dtype: WeightDtype,
    /// Perplexity of the reference.
    perplexity: f64,
    /// Perplexity of the model, as a multiple of the reference's.
    perplexity_ratio: f64,
    /// Mean KL(reference ‖ model) per token, in nats.
    kl_mean: f64,
    /// 99th percentile over tokens.
    kl_99: f64,
    /// Largest of all tokens.
    kl_max: f64,
    /// Share of tokens for which both have the same arg-max.
    same_argmax: f64,
}

/// Checks that the reference is not the evaluated model itself.
pub(super) fn check_reference(
    reference: WeightDtype,
    dtype: WeightDtype,
    cache_dtype: CacheDtype,
) -> anyhow::Result<()> {
    ensure!(
        reference != dtype || cache_dtype != CacheDtype::F32,
        "--reference-dtype {dtype} is the format that is evaluated (--dtype {dtype}), with keys and values in f32: there \
         is nothing to compare"
    );
    Ok(())
}

/// Results of all rows in the loaded model and in the reference, which is streamed from the files if it is in f32.
pub(super) fn divergences(
    loaded: &Loaded,
    reference: WeightDtype,
    mounted: Option<&MountedAdapter>,
    rows: &TestRows,
    batch_tokens: usize,
) -> anyhow::Result<Vec<RowDivergence>> {
    let Loaded { checkpoint, model, .. } = loaded;
    let reference = if reference.is_f32() {
        map_large_allocations();
        Model::stream(checkpoint, &model.device())?
    } else {
        Model::load_as(checkpoint, &model.device(), reference)?
    };
    let bar = progress::begin("evaluating", 2 * rows.sequences.len() as u64, "rows");
    let told = &mut |done| bar.set(done as u64);
    let found =
        evaluate_divergence(&reference, model, &rows.sequences, mounted, batch_tokens, told);
    keep_freed_memory();
    let found = found?;
    bar.finish();
    Ok(found)
}

impl Divergence {
    pub(super) fn new(dtype: WeightDtype, rows: &[RowDivergence]) -> Self {
        let of =
            |side: fn(&RowDivergence) -> &RowEvaluation| rows.iter().map(side).sum::<Evaluation>();
        let [reference, model] = [of(|row| &row.reference), of(|row| &row.model)];
        let mut kl: Vec<f64> = rows.iter().flat_map(|row| row.kl.iter().copied()).collect();
        kl.sort_by(f64::total_cmp);
        let same: u64 = rows.iter().map(|row| row.same_argmax).sum();
        Self {
            dtype,
            perplexity: reference.perplexity(),
            perplexity_ratio: (model.loss() - reference.loss()).exp(),
            kl_mean: kl.iter().sum::<f64>() / kl.len() as f64,
            kl_99: percentile(&kl, 99),
            kl_max: percentile(&kl, 100),
            same_argmax: same as f64 / kl.len() as f64,
        }
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        let Self { dtype, perplexity, perplexity_ratio, kl_mean, kl_99, kl_max, same_argmax } =
            self;
        output::line(&format!(
            "against {dtype}: KL divergence {kl_mean:.2e} nats per token (99 % of tokens up to {kl_99:.2e}, all up to \
             {kl_max:.2e}), same arg-max for {:.2} % of tokens, perplexity {perplexity_ratio:.4} times {perplexity:.3}",
            100.0 * same_argmax
        ))
    }
}

/// The least of some sorted values that `percent` of them do not exceed (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_so_many_do_not_exceed() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([99, 100, 50].map(|percent| percentile(&values, percent)), [198., 200., 100.]);
        assert_eq!([99, 100].map(|percent| percentile(&values[..1], percent)), [1., 1.]);
    }

    #[test]
    fn tokens_count_alike_whatever_row_they_are_in() {
        let side = |nll, tokens| RowEvaluation { nll, tokens, exact: false };
        let rows = [
            RowDivergence {
                reference: side(3., 3),
                model: side(6., 3),
                kl: vec![1., 0., 2.],
                same_argmax: 1,
            },
            RowDivergence {
                reference: side(1., 1),
                model: side(0., 1),
                kl: vec![5.],
                same_argmax: 1,
            },
        ];
        let found = Divergence::new(WeightDtype::Bf16, &rows);
        let expected = [1f64.exp(), 0.5f64.exp(), 2., 5., 5., 0.5];
        let Divergence {
            perplexity, perplexity_ratio, kl_mean, kl_99, kl_max, same_argmax, ..
        } = found;
        let found = [perplexity, perplexity_ratio, kl_mean, kl_99, kl_max, same_argmax];
        assert!(found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-12), "{found:?}");
    }
}

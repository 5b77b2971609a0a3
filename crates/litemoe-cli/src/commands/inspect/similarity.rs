use std::collections::BTreeMap;

use anyhow::bail;
use litemoe_core::{LayerId, Similarity, SimilarityKind};
use serde::Serialize;

use super::canvas::Canvas;
use super::print::{aligned, field, table};
use super::view::View;
use crate::output;

/// Report on `similarity.json`.
#[derive(Serialize)]
pub(super) struct SimilarityView {
    kind: &'static str,
    similarity: SimilarityKind,
    kappa: f64,
    fingerprint: String,
    input_sha256: String,
    layers: BTreeMap<LayerId, Pairs>,
}

/// Similarities of the pairs of a layer's experts.
#[derive(Debug, PartialEq, Serialize)]
struct Pairs {
    n_experts: usize,
    mean: f64,
    least: f64,
    most: f64,
    /// The most similar pair.
    closest: [usize; 2],
}

impl SimilarityView {
    pub(super) fn of(similarity: &Similarity) -> anyhow::Result<Self> {
        let mut layers = BTreeMap::new();
        for (&layer, matrix) in &similarity.layers {
            let Some(pairs) = Pairs::of(matrix) else {
                bail!(
                    "layer {layer}: the similarities are no square of at least two experts, or not finite"
                );
            };
            layers.insert(layer, pairs);
        }
        Ok(Self {
            kind: "similarity",
            similarity: similarity.kind,
            kappa: similarity.kappa,
            fingerprint: similarity.fingerprint.to_string(),
            input_sha256: similarity.input_sha256.clone(),
            layers,
        })
    }
}

impl View for SimilarityView {
    fn print(&self, _: Canvas) -> anyhow::Result<()> {
        field("similarities", &format!("{}, kappa {}", self.similarity, self.kappa))?;
        field("fingerprint", &self.fingerprint)?;
        field("input", &self.input_sha256)?;
        let mut table = table(["layer", "experts", "mean", "least", "most", "closest pair"]);
        for (layer, Pairs { n_experts, mean, least, most, closest: [one, other] }) in &self.layers {
            let [mean, least, most] = [mean, least, most].map(|value| format!("{value:.4}"));
            let pair = format!("{one}, {other}");
            table.add_row([layer.to_string(), n_experts.to_string(), mean, least, most, pair]);
        }
        output::line(&aligned(table).to_string())
    }
}

impl Pairs {
    /// `None` unless the matrix is square, finite and of at least two experts.
    fn of(matrix: &[Vec<f64>]) -> Option<Self> {
        let n_experts = matrix.len();
        let is_row =
            |row: &Vec<f64>| row.len() == n_experts && row.iter().all(|value| value.is_finite());
        if n_experts < 2 || !matrix.iter().all(is_row) {
            return None;
        }
        let pairs =
            (0..n_experts).flat_map(|one| (one + 1..n_experts).map(move |other| [one, other]));
        let mut of = Self {
            n_experts,
            mean: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            closest: [0, 1],
        };
        let mut n_pairs = 0;
        for [one, other] in pairs {
            let value = matrix[one][other];
            n_pairs += 1;
            of.mean += value;
            of.least = of.least.min(value);
            if value > of.most {
                (of.most, of.closest) = (value, [one, other]);
            }
        }
        of.mean /= f64::from(n_pairs);
        Some(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_leave_out_the_diagonal() {
        let matrix = [vec![1.0, 0.5, 0.25], vec![0.5, 1.0, 0.75], vec![0.25, 0.75, 1.0]];
        let expected = Pairs { n_experts: 3, mean: 0.5, least: 0.25, most: 0.75, closest: [1, 2] };
        assert_eq!(Pairs::of(&matrix), Some(expected));
        assert_eq!(Pairs::of(&[vec![1.0, f64::NAN], vec![0.0, 1.0]]), None);
        assert_eq!(Pairs::of(&[vec![1.0], vec![0.0, 1.0]]), None);
    }
}

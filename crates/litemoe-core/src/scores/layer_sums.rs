use serde::{Deserialize, Serialize};

use crate::{ExactSums, MoeLayer, SimilarityKind};

/// Sums over the calibration tokens of one layer, from which all criteria and similarities are computed. X_e: tokens
/// routed to expert e; p: router probability; g: routing weight (gate); f: expert output before the gate. Additive over
/// shards of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSums {
    /// T: number of tokens.
    pub tokens: u64,
    /// Experts per token.
    pub top_k: usize,
    /// |X_e|: number of tokens routed to each expert.
    pub count: Vec<u64>,
    /// Σ p over all tokens.
    pub prob: ExactSums,
    /// Σ g over X_e.
    pub gate: ExactSums,
    /// Σ ‖f‖ over X_e.
    pub norm: ExactSums,
    /// Σ g·‖f‖ over X_e.
    pub gate_norm: ExactSums,
    /// Σ |pᵢ − pⱼ| over all tokens, for pairs i < j in the order (0, 1), (0, 2), …, (1, 2), …; used by
    /// [`SimilarityKind::Affinity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<ExactSums>,
    /// Σ g·f over X_e, `d_model` values per expert; used by [`SimilarityKind::ExpertOutputGated`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated_output: Option<Vec<ExactSums>>,
}

impl LayerSums {
    /// Zero sums of a layer, with those that the given similarities need.
    pub fn empty(layer: &MoeLayer, similarities: &[SimilarityKind]) -> Self {
        let n = layer.n_experts;
        let wanted = |kind| similarities.contains(&kind);
        Self {
            tokens: 0,
            top_k: layer.top_k,
            count: vec![0; n],
            prob: ExactSums::zeros(n),
            gate: ExactSums::zeros(n),
            norm: ExactSums::zeros(n),
            gate_norm: ExactSums::zeros(n),
            gap: wanted(SimilarityKind::Affinity).then(|| ExactSums::zeros(n_pairs(n))),
            gated_output: wanted(SimilarityKind::ExpertOutputGated)
                .then(|| vec![ExactSums::zeros(layer.d_model); n]),
        }
    }

    /// Number of experts.
    pub fn n_experts(&self) -> usize {
        self.count.len()
    }

    /// Whether all sums have the same number of experts.
    pub fn is_consistent(&self) -> bool {
        let n = self.n_experts();
        let gap = self.gap.as_ref().is_none_or(|gap| gap.n_sums() == n_pairs(n));
        let outputs = self.gated_output.as_ref().is_none_or(|outputs| {
            outputs.len() == n && outputs.iter().all(|sums| sums.n_sums() == outputs[0].n_sums())
        });
        gap && outputs && self.per_expert().iter().all(|sums| sums.n_sums() == n)
    }

    /// Whether every sum is finite.
    pub fn is_finite(&self) -> bool {
        let outputs = self.gated_output.iter().flatten();
        let mut sums = self.per_expert().into_iter().chain(&self.gap).chain(outputs);
        sums.all(|sums| sums.values().iter().all(|value| value.is_finite()))
    }

    /// Whether `other` has the same number of experts, `top_k` and similarities.
    pub fn adds_up_with(&self, other: &Self) -> bool {
        self.shape() == other.shape()
    }

    /// Adds the sums of the same layer over other data.
    ///
    /// # Panics
    /// When they do not [add up](Self::adds_up_with).
    pub fn merge(&mut self, other: &Self) {
        assert!(self.adds_up_with(other), "sums of other experts");
        self.tokens = self.tokens.saturating_add(other.tokens);
        for (count, more) in self.count.iter_mut().zip(&other.count) {
            *count = count.saturating_add(*more);
        }
        self.prob.merge(&other.prob);
        self.gate.merge(&other.gate);
        self.norm.merge(&other.norm);
        self.gate_norm.merge(&other.gate_norm);
        self.gap.iter_mut().zip(&other.gap).for_each(|(sums, more)| sums.merge(more));
        let outputs = self.gated_output.iter_mut().flatten();
        outputs.zip(other.gated_output.iter().flatten()).for_each(|(sums, more)| sums.merge(more));
    }

    fn per_expert(&self) -> [&ExactSums; 4] {
        [&self.prob, &self.gate, &self.norm, &self.gate_norm]
    }

    /// Everything that must be equal for sums to be added.
    fn shape(&self) -> impl PartialEq {
        let outputs = self.gated_output.as_ref();
        (
            (self.top_k, self.n_experts(), self.per_expert().map(ExactSums::n_sums)),
            self.gap.as_ref().map(ExactSums::n_sums),
            outputs.map(|outputs| outputs.iter().map(ExactSums::n_sums).collect::<Vec<_>>()),
        )
    }
}

/// Number of pairs i < j of `n` experts.
fn n_pairs(n: usize) -> usize {
    n * n.saturating_sub(1) / 2
}

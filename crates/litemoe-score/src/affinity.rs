use litemoe_core::{LayerId, MoeLayer, Observer, Routing};

use crate::sums::{PerLayer, add, at, per_layer, values};

/// Sums over one layer's tokens for the affinity of its experts.
#[derive(Debug, Clone)]
struct Gaps {
    tokens: u64,
    /// Σ pᵢ
    prob: Vec<f64>,
    /// Σ |pᵢ − pⱼ|, `n_experts` rows; only j > i is kept up.
    gap: Vec<Vec<f64>>,
}

impl Gaps {
    fn zero(n_experts: usize) -> Self {
        Self { tokens: 0, prob: vec![0.0; n_experts], gap: vec![vec![0.0; n_experts]; n_experts] }
    }

    fn observe(&mut self, probs: &[f64]) {
        self.tokens += 1;
        add(&mut self.prob, probs);
        for (i, (gaps, p)) in self.gap.iter_mut().zip(probs).enumerate() {
            for (gap, q) in gaps[i + 1..].iter_mut().zip(&probs[i + 1..]) {
                *gap += (p - q).abs();
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        add(&mut self.prob, &other.prob);
        for (sums, more) in self.gap.iter_mut().zip(&other.gap) {
            add(sums, more);
        }
    }

    /// Mean of (1−κ)(1−|pᵢ−pⱼ|) + κ(pᵢ+pⱼ)/2.
    fn affinity(&self, kappa: f64, i: usize, j: usize) -> f64 {
        let tokens = self.tokens as f64;
        let gap = self.gap[i.min(j)][i.max(j)] / tokens;
        let level = (self.prob[i] + self.prob[j]) / (2.0 * tokens);
        (1.0 - kappa) * (1.0 - gap) + kappa * level
    }

    fn similarities(&self, kappa: f64) -> Vec<Vec<f64>> {
        let n_experts = self.prob.len();
        let row = |i| (0..n_experts).map(|j| self.affinity(kappa, i, j)).collect();
        (0..n_experts).map(row).collect()
    }
}

/// Collects what [`Affinity`](litemoe_core::SimilarityKind::Affinity) is made of.
#[derive(Debug, Clone)]
pub(crate) struct AffinitySums {
    layers: PerLayer<Gaps>,
}

impl AffinitySums {
    pub(crate) fn new(layers: &[MoeLayer]) -> Self {
        Self { layers: per_layer(layers, |layer| Gaps::zero(layer.n_experts)) }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (&layer, gaps) in &other.layers {
            at(&mut self.layers, layer).merge(gaps);
        }
    }

    pub(crate) fn similarities(&self, kappa: f64) -> PerLayer<Vec<Vec<f64>>> {
        self.layers.iter().map(|(&layer, gaps)| (layer, gaps.similarities(kappa))).collect()
    }
}

impl Observer for AffinitySums {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let [_, n_experts] = routing.probs.dims();
        let gaps = at(&mut self.layers, layer);
        values(&routing.probs).chunks_exact(n_experts).for_each(|probs| gaps.observe(probs));
    }

    fn wants_activations(&self) -> bool {
        false
    }
}

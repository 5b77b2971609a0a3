use std::collections::BTreeMap;

use burn::tensor::Tensor;
use litemoe_core::{Activation, ExpertId, LayerId, LayerSums, MoeLayer, Observer, Routing};

/// A statistic of every layer.
pub(crate) type PerLayer<T> = BTreeMap<LayerId, T>;

/// Starts a statistic for every layer.
pub(crate) fn per_layer<T>(layers: &[MoeLayer], zero: impl Fn(&MoeLayer) -> T) -> PerLayer<T> {
    layers.iter().map(|layer| (layer.id, zero(layer))).collect()
}

/// The statistic of a layer that the model reports on.
pub(crate) fn at<T>(statistics: &mut PerLayer<T>, layer: LayerId) -> &mut T {
    statistics.get_mut(&layer).expect("a model reports only on layers that it declares")
}

/// Adds `more` to `sums`, value by value.
pub(crate) fn add(sums: &mut [f64], more: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(more) {
        *sum += value;
    }
}

/// The tensor's values in row-major order, widened so that sums of them lose nothing.
pub(crate) fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.clone().into_data().iter().collect()
}

/// Tokens of one layer, and the sums over them that every criterion is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerTotals {
    /// T
    pub(crate) tokens: u64,
    /// The sums, a value per expert.
    pub(crate) sums: LayerSums,
}

impl LayerTotals {
    fn zero(n_experts: usize) -> Self {
        let zeros = || vec![0.0; n_experts];
        let sums = LayerSums {
            count: zeros(),
            prob: zeros(),
            gate: zeros(),
            norm: zeros(),
            gate_norm: zeros(),
        };
        Self { tokens: 0, sums }
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.tokens > 0 && self.sums.count.iter().any(|&count| count > 0.0)
    }

    fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        add(&mut self.sums.count, &other.sums.count);
        add(&mut self.sums.prob, &other.sums.prob);
        add(&mut self.sums.gate, &other.sums.gate);
        add(&mut self.sums.norm, &other.sums.norm);
        add(&mut self.sums.gate_norm, &other.sums.gate_norm);
    }
}

/// A value that is not a finite number: where it was seen first, and what it is.
pub(crate) type NotFinite = (ExpertId, &'static str);

/// Collects [`LayerSums`] of every layer.
#[derive(Debug, Clone)]
pub(crate) struct ExpertSums {
    layers: PerLayer<LayerTotals>,
    not_finite: Option<NotFinite>,
}

impl ExpertSums {
    pub(crate) fn new(layers: &[MoeLayer]) -> Self {
        let layers = per_layer(layers, |layer| LayerTotals::zero(layer.n_experts));
        Self { layers, not_finite: None }
    }

    pub(crate) fn layers(&self) -> &PerLayer<LayerTotals> {
        &self.layers
    }

    /// The first value seen that is not a finite number.
    pub(crate) fn not_finite(&self) -> Option<NotFinite> {
        self.not_finite
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (&layer, totals) in &other.layers {
            at(&mut self.layers, layer).merge(totals);
        }
        self.not_finite = self.not_finite.or(other.not_finite);
    }

    fn expect_finite(&mut self, value: f64, expert: ExpertId, what: &'static str) {
        if !value.is_finite() {
            self.not_finite.get_or_insert((expert, what));
        }
    }
}

impl Observer for ExpertSums {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let [tokens, n_experts] = routing.probs.dims();
        let totals = at(&mut self.layers, layer);
        totals.tokens += tokens as u64;
        for probs in values(&routing.probs).chunks_exact(n_experts) {
            add(&mut totals.sums.prob, probs);
        }
        let broken = totals.sums.prob.iter().position(|sum| !sum.is_finite());
        if let Some(expert) = broken {
            self.expect_finite(f64::NAN, layer.expert(expert), "routing probability");
        }
    }

    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        let gates = values(&activation.gates);
        // a norm per row, taken where the outputs lie: only n numbers come back from the device
        let norms = values(&activation.outputs.clone().square().sum_dim(1).sqrt());
        let gate: f64 = gates.iter().sum();
        let norm: f64 = norms.iter().sum();
        let sums = &mut at(&mut self.layers, expert.layer).sums;
        sums.count[expert.expert] += activation.tokens.len() as f64;
        sums.gate[expert.expert] += gate;
        sums.norm[expert.expert] += norm;
        sums.gate_norm[expert.expert] += gates.iter().zip(&norms).map(|(g, f)| g * f).sum::<f64>();
        self.expect_finite(gate, expert, "gate");
        self.expect_finite(norm, expert, "output");
    }
}

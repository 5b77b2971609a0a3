use litemoe_core::{Activation, ExpertId, MoeLayer, Observer};

use crate::sums::{PerLayer, add, at, per_layer, values};

/// Collects Σ g·f of every expert, a vector of `d_model` values: what
/// [`ExpertOutputGated`](litemoe_core::SimilarityKind::ExpertOutputGated) is made of.
#[derive(Debug, Clone)]
pub(crate) struct OutputSums {
    layers: PerLayer<Vec<Vec<f64>>>,
}

impl OutputSums {
    pub(crate) fn new(layers: &[MoeLayer]) -> Self {
        Self { layers: per_layer(layers, |layer| vec![vec![0.0; layer.d_model]; layer.n_experts]) }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (&layer, sums) in &other.layers {
            for (sum, more) in at(&mut self.layers, layer).iter_mut().zip(sums) {
                add(sum, more);
            }
        }
    }

    /// Cosines. A mean is the sum over a count, so the sums' cosines are the means'.
    pub(crate) fn similarities(&self) -> PerLayer<Vec<Vec<f64>>> {
        self.layers.iter().map(|(&layer, sums)| (layer, cosines(sums))).collect()
    }
}

impl Observer for OutputSums {
    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        let gates = activation.gates.clone().unsqueeze_dim::<2>(0);
        let sum = values(&gates.matmul(activation.outputs.clone()));
        add(&mut at(&mut self.layers, expert.layer)[expert.expert], &sum);
    }
}

fn cosines(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = vectors.len();
    let entry = |i: usize, j: usize| if i == j { 1.0 } else { cosine(&vectors[i], &vectors[j]) };
    (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect()
}

/// The cosine of two vectors; 0 when one of them is 0: an expert that no token chose is like no other.
fn cosine(x: &[f64], y: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(x, x) * dot(y, y)).sqrt();
    if norms > 0.0 { dot(x, y) / norms } else { 0.0 }
}

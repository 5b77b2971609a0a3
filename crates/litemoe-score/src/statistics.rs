//! Adds the sums of one batch to those of a layer.

use burn::tensor::Tensor;
use litemoe_core::{Activation, LayerSums, Routing};

/// A value that is not finite: the expert's index in its layer, and the quantity.
pub(crate) type NotFinite = (usize, &'static str);

/// Adds a batch's routing probabilities.
pub(crate) fn add_routing(sums: &mut LayerSums, routing: &Routing) -> Result<(), NotFinite> {
    let [tokens, n_experts] = routing.probs.dims();
    let probs = values(&routing.probs);
    let rows = || probs.chunks_exact(n_experts);
    let prob = summed(rows().map(<[f64]>::to_vec), n_experts);
    sums.tokens += tokens as u64;
    sums.prob.add_each(&prob);
    if let Some(gap) = &mut sums.gap {
        gap.add_each(&summed(rows().map(gaps), gap.n_sums()));
    }
    match prob.iter().position(|sum| !sum.is_finite()) {
        Some(expert) => Err((expert, "routing probability")),
        None => Ok(()),
    }
}

/// Adds an expert's routing weights (gates) and output norms for a batch.
pub(crate) fn add_activation(
    sums: &mut LayerSums,
    expert: usize,
    activation: &Activation,
) -> Result<(), NotFinite> {
    let gates = values(&activation.gates);
    // norms are computed on the device: only n numbers are copied to the host
    let norms = values(&activation.outputs.clone().square().sum_dim(1).sqrt());
    let gate: f64 = gates.iter().sum();
    let norm: f64 = norms.iter().sum();
    sums.count[expert] += activation.tokens.len() as u64;
    sums.gate.add(expert, gate);
    sums.norm.add(expert, norm);
    sums.gate_norm.add(expert, gates.iter().zip(&norms).map(|(g, f)| g * f).sum());
    if let Some(outputs) = &mut sums.gated_output {
        let gates = activation.gates.clone().unsqueeze_dim::<2>(0);
        outputs[expert].add_each(&values(&gates.matmul(activation.outputs.clone())));
    }
    match (gate.is_finite(), norm.is_finite()) {
        (false, _) => Err((expert, "gate")),
        (_, false) => Err((expert, "output")),
        _ => Ok(()),
    }
}

/// |pᵢ − pⱼ| of all pairs i < j.
fn gaps(probs: &[f64]) -> Vec<f64> {
    let of = |i: usize| probs[i + 1..].iter().map(move |p| (probs[i] - p).abs());
    (0..probs.len()).flat_map(of).collect()
}

/// The elementwise sum of rows of `n` values.
fn summed(rows: impl Iterator<Item = Vec<f64>>, n: usize) -> Vec<f64> {
    rows.fold(vec![0.0; n], |mut sums, row| {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        sums
    })
}

/// The tensor's values in row-major order, in f64.
fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.clone().into_data().iter().collect()
}

use burn::tensor::{Int, Tensor, TensorData};
use litemoe_core::{ExpertBiases, ExpertId, ExpertWeights};

use crate::MergeError;

/// Weighted merging, one step: `sum + share · (absorbed − centroid)`.
///
/// Over all absorbed of a group this gives Σ share · weights, because the group's shares sum to 1. In this form, merging
/// equal experts gives exactly that expert's weights, bit for bit.
pub(crate) fn blend(
    sum: ExpertWeights,
    centroid: &ExpertWeights,
    absorbed: ExpertWeights,
    share: f64,
) -> ExpertWeights {
    let step = |sum: Tensor<2>, centroid: &Tensor<2>, absorbed: Tensor<2>| {
        sum + (absorbed - centroid.clone()).mul_scalar(share)
    };
    let gate = match (sum.gate, &centroid.gate, absorbed.gate) {
        (Some(sum), Some(centroid), Some(absorbed)) => Some(step(sum, centroid, absorbed)),
        _ => None,
    };
    let biases = match (sum.biases, &centroid.biases, absorbed.biases) {
        (Some(sum), Some(centroid), Some(absorbed)) => {
            Some(blend_biases(sum, centroid, absorbed, share))
        }
        _ => None,
    };
    ExpertWeights {
        gate,
        up: step(sum.up, &centroid.up, absorbed.up),
        down: step(sum.down, &centroid.down, absorbed.down),
        biases,
    }
}

fn blend_biases(
    sum: ExpertBiases,
    centroid: &ExpertBiases,
    absorbed: ExpertBiases,
    share: f64,
) -> ExpertBiases {
    let step = |sum: Tensor<1>, centroid: &Tensor<1>, absorbed: Tensor<1>| {
        sum + (absorbed - centroid.clone()).mul_scalar(share)
    };
    let gate = match (sum.gate, &centroid.gate, absorbed.gate) {
        (Some(sum), Some(centroid), Some(absorbed)) => Some(step(sum, centroid, absorbed)),
        _ => None,
    };
    ExpertBiases {
        gate,
        up: step(sum.up, &centroid.up, absorbed.up),
        down: step(sum.down, &centroid.down, absorbed.down),
    }
}

/// Permutes an expert's neurons: position `j` of the result is neuron `order[j]`.
pub(crate) fn reordered(expert: ExpertWeights, order: &[u32]) -> ExpertWeights {
    let indices: Vec<i64> = order.iter().map(|&neuron| i64::from(neuron)).collect();
    let order =
        Tensor::<1, Int>::from_data(TensorData::new(indices, [order.len()]), &expert.up.device());
    ExpertWeights {
        gate: expert.gate.map(|gate| gate.select(0, order.clone())),
        up: expert.up.select(0, order.clone()),
        down: expert.down.select(1, order.clone()),
        biases: expert.biases.map(|biases| ExpertBiases {
            gate: biases.gate.map(|gate| gate.select(0, order.clone())),
            up: biases.up.select(0, order),
            down: biases.down,
        }),
    }
}

/// Checks that a absorbed has the shapes of its centroid.
pub(crate) fn check_pair(
    id: ExpertId,
    centroid: &ExpertWeights,
    absorbed: &ExpertWeights,
) -> Result<(), MergeError> {
    let check = |tensor, centroid: &Tensor<2>, absorbed: &Tensor<2>| {
        let (expected, found) = (centroid.dims(), absorbed.dims());
        let error = MergeError::Shape { expert: id, tensor, expected, found };
        if expected == found { Ok(()) } else { Err(error) }
    };
    check("up", &centroid.up, &absorbed.up)?;
    check("down", &centroid.down, &absorbed.down)?;
    match (&centroid.gate, &absorbed.gate) {
        (Some(centroid), Some(absorbed)) => check("gate", centroid, absorbed)?,
        (None, None) => {}
        _ => return Err(MergeError::Gate { expert: id }),
    }
    match (&centroid.biases, &absorbed.biases) {
        (Some(centroid), Some(absorbed)) => check_biases(id, centroid, absorbed),
        (None, None) => Ok(()),
        _ => Err(MergeError::Bias { expert: id }),
    }
}

fn check_biases(
    id: ExpertId,
    centroid: &ExpertBiases,
    absorbed: &ExpertBiases,
) -> Result<(), MergeError> {
    let dims = |bias: &ExpertBiases| {
        let gate = bias.gate.as_ref().map(|gate| gate.dims());
        (gate, bias.up.dims(), bias.down.dims())
    };
    if dims(centroid) == dims(absorbed) { Ok(()) } else { Err(MergeError::Bias { expert: id }) }
}

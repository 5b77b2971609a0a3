use burn::tensor::{Int, Tensor, TensorData};
use litemoe_core::{ExpertBiases, ExpertId, ExpertWeights};

use crate::MergeError;

/// Weighted merging, one step: `sum + share · (member − host)`.
///
/// Over all members of a group this gives Σ share · weights, because the group's shares sum to 1. In this form, merging
/// equal experts gives exactly that expert's weights, bit for bit.
pub(crate) fn blend(
    sum: ExpertWeights,
    host: &ExpertWeights,
    member: ExpertWeights,
    share: f64,
) -> ExpertWeights {
    let step = |sum: Tensor<2>, host: &Tensor<2>, member: Tensor<2>| {
        sum + (member - host.clone()).mul_scalar(share)
    };
    let gate = match (sum.gate, &host.gate, member.gate) {
        (Some(sum), Some(host), Some(member)) => Some(step(sum, host, member)),
        _ => None,
    };
    let biases = match (sum.biases, &host.biases, member.biases) {
        (Some(sum), Some(host), Some(member)) => Some(blend_biases(sum, host, member, share)),
        _ => None,
    };
    ExpertWeights {
        gate,
        up: step(sum.up, &host.up, member.up),
        down: step(sum.down, &host.down, member.down),
        biases,
    }
}

fn blend_biases(
    sum: ExpertBiases,
    host: &ExpertBiases,
    member: ExpertBiases,
    share: f64,
) -> ExpertBiases {
    let step = |sum: Tensor<1>, host: &Tensor<1>, member: Tensor<1>| {
        sum + (member - host.clone()).mul_scalar(share)
    };
    let gate = match (sum.gate, &host.gate, member.gate) {
        (Some(sum), Some(host), Some(member)) => Some(step(sum, host, member)),
        _ => None,
    };
    ExpertBiases {
        gate,
        up: step(sum.up, &host.up, member.up),
        down: step(sum.down, &host.down, member.down),
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

/// Checks that a member has the shapes of its host.
pub(crate) fn check_pair(
    id: ExpertId,
    host: &ExpertWeights,
    member: &ExpertWeights,
) -> Result<(), MergeError> {
    let check = |tensor, host: &Tensor<2>, member: &Tensor<2>| {
        let (expected, found) = (host.dims(), member.dims());
        let error = MergeError::Shape { expert: id, tensor, expected, found };
        if expected == found { Ok(()) } else { Err(error) }
    };
    check("up", &host.up, &member.up)?;
    check("down", &host.down, &member.down)?;
    match (&host.gate, &member.gate) {
        (Some(host), Some(member)) => check("gate", host, member)?,
        (None, None) => {}
        _ => return Err(MergeError::Gate { expert: id }),
    }
    match (&host.biases, &member.biases) {
        (Some(host), Some(member)) => check_biases(id, host, member),
        (None, None) => Ok(()),
        _ => Err(MergeError::Bias { expert: id }),
    }
}

fn check_biases(
    id: ExpertId,
    host: &ExpertBiases,
    member: &ExpertBiases,
) -> Result<(), MergeError> {
    let dims = |bias: &ExpertBiases| {
        let gate = bias.gate.as_ref().map(|gate| gate.dims());
        (gate, bias.up.dims(), bias.down.dims())
    };
    if dims(host) == dims(member) { Ok(()) } else { Err(MergeError::Bias { expert: id }) }
}

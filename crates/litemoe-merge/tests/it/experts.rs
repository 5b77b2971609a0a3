use std::convert::Infallible;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use litemoe_core::{ExpertBiases, ExpertId, ExpertSource, ExpertWeights, LayerId, MoeLayer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const D_MODEL: usize = 5;

/// An in-memory checkpoint.
pub(crate) struct Experts {
    pub(crate) layers: Vec<MoeLayer>,
    pub(crate) experts: Vec<Vec<ExpertWeights>>,
}

impl Experts {
    /// Two layers of random gated experts.
    pub(crate) fn random(n_experts: usize, top_k: usize, d_expert: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layers = [1, 4].map(|block| MoeLayer {
            id: LayerId::decoder(block),
            n_experts,
            top_k,
            groups: None,
            d_model: D_MODEL,
            d_expert,
            expert_bytes: (3 * D_MODEL * d_expert * 2) as u64,
        });
        let mut layer = || (0..n_experts).map(|_| expert(d_expert, &mut rng)).collect();
        Self { layers: layers.to_vec(), experts: vec![layer(), layer()] }
    }
}

impl ExpertSource for Experts {
    type Error = Infallible;

    fn moe_layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    fn expert(&self, id: ExpertId) -> Result<ExpertWeights, Infallible> {
        let layer = self.layers.iter().position(|layer| layer.id == id.layer).unwrap();
        Ok(self.experts[layer][id.expert].clone())
    }
}

pub(crate) fn expert(d_expert: usize, rng: &mut ChaCha8Rng) -> ExpertWeights {
    ExpertWeights {
        gate: Some(matrix([d_expert, D_MODEL], rng)),
        up: matrix([d_expert, D_MODEL], rng),
        down: matrix([D_MODEL, d_expert], rng),
        biases: Some(ExpertBiases {
            gate: Some(vector(d_expert, rng)),
            up: vector(d_expert, rng),
            down: vector(D_MODEL, rng),
        }),
    }
}

fn vector(len: usize, rng: &mut ChaCha8Rng) -> Tensor<1> {
    matrix([1, len], rng).squeeze_dim(0)
}

pub(crate) fn matrix(shape: [usize; 2], rng: &mut ChaCha8Rng) -> Tensor<2> {
    let value = |_| rng.random::<f32>() * 2.0 - 1.0;
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Permutes an expert's neurons: position `j` of the result is neuron `order[j]`.
pub(crate) fn permuted(expert: &ExpertWeights, order: &[usize]) -> ExpertWeights {
    let values: Vec<i64> = order.iter().map(|&neuron| neuron as i64).collect();
    let order = Tensor::<1, Int>::from_data(values.as_slice(), &Device::flex());
    ExpertWeights {
        gate: expert.gate.as_ref().map(|gate| gate.clone().select(0, order.clone())),
        up: expert.up.clone().select(0, order.clone()),
        down: expert.down.clone().select(1, order.clone()),
        biases: expert.biases.clone().map(|biases| ExpertBiases {
            gate: biases.gate.map(|gate| gate.select(0, order.clone())),
            up: biases.up.select(0, order),
            ..biases
        }),
    }
}

/// Output of a gated expert for `x` `[tokens, d_model]`.
pub(crate) fn output(expert: &ExpertWeights, x: Tensor<2>) -> Tensor<2> {
    let biases = expert.biases.clone().unwrap();
    let add = |product: Tensor<2>, bias: Tensor<1>| product + bias.unsqueeze_dim(0);
    let up = add(x.clone().matmul(expert.up.clone().transpose()), biases.up);
    let inner = match &expert.gate {
        Some(gate) => {
            let gate = add(x.matmul(gate.clone().transpose()), biases.gate.unwrap());
            activation::silu(gate) * up
        }
        None => activation::silu(up),
    };
    add(inner.matmul(expert.down.clone().transpose()), biases.down)
}

/// All weights, flattened.
pub(crate) fn values(expert: &ExpertWeights) -> Vec<f32> {
    let floats = |data: TensorData| data.iter::<f32>().collect::<Vec<_>>();
    let matrices = expert.gate.iter().chain([&expert.up, &expert.down]);
    let biases = expert.biases.as_ref().unwrap();
    let vectors = biases.gate.iter().chain([&biases.up, &biases.down]);
    let matrices = matrices.flat_map(|matrix| floats(matrix.clone().into_data()));
    matrices.chain(vectors.flat_map(|vector| floats(vector.clone().into_data()))).collect()
}

pub(crate) fn assert_close(x: &[f32], y: &[f32]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(y) {
        assert!((x - y).abs() < 1e-5, "{x} is not {y}");
    }
}

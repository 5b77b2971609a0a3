use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use litemoe_core::{
    Activation, Input, LanguageModel, LayerId, LinearSite, MoeLayer, MoeModel, Packing, Pass,
    Routing, Stream,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const VOCAB: usize = 19;
pub(crate) const MAX_TOKENS: usize = 8;
const D_MODEL: usize = 6;
const D_EXPERT: usize = 4;

/// Sizes of the toy model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) blocks: usize,
    pub(crate) n_experts: usize,
    pub(crate) top_k: usize,
}

/// A toy language model: each block adds half of the previous token's hidden state, then its experts' output.
#[derive(Debug, Clone)]
pub(crate) struct Toy {
    embedding: Tensor<2>,
    pub(crate) blocks: Vec<ToyBlock>,
    layers: Vec<MoeLayer>,
    top_k: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct ToyBlock {
    /// Router weight, a column per expert, `[d_model, n_experts]`.
    router: Tensor<2>,
    pub(crate) experts: Vec<ToyExpert>,
}

/// `silu(x·up)·down`
#[derive(Debug, Clone)]
pub(crate) struct ToyExpert {
    up: Tensor<2>,
    pub(crate) down: Tensor<2>,
}

impl Toy {
    pub(crate) fn random(shape: Shape, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layer = |block| MoeLayer {
            id: LayerId::decoder(block),
            n_experts: shape.n_experts,
            top_k: shape.top_k,
            groups: None,
            d_model: D_MODEL,
            d_expert: D_EXPERT,
            expert_bytes: (2 * D_MODEL * D_EXPERT * 4) as u64,
        };
        Self {
            embedding: matrix(&mut rng, [VOCAB, D_MODEL]),
            blocks: (0..shape.blocks)
                .map(|_| ToyBlock::random(shape.n_experts, &mut rng))
                .collect(),
            layers: (0..shape.blocks).map(layer).collect(),
            top_k: shape.top_k,
        }
    }

    /// The same model with the experts of every block permuted: position `i` holds expert `order[i]`.
    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        let blocks = self.blocks.iter().map(|block| block.permuted(order)).collect();
        Self { blocks, ..self.clone() }
    }
}

impl ToyBlock {
    fn random(n_experts: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut expert = || ToyExpert {
            up: matrix(rng, [D_MODEL, D_EXPERT]),
            down: matrix(rng, [D_EXPERT, D_MODEL]),
        };
        let experts = (0..n_experts).map(|_| expert()).collect();
        Self { experts, router: matrix(rng, [D_MODEL, n_experts]) }
    }

    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        Self {
            router: self.router.clone().select(1, indices(order)),
            experts: order.iter().map(|&expert| self.experts[expert].clone()).collect(),
        }
    }

    fn route(&self, x: Tensor<2>, top_k: usize) -> Routing {
        let probs = activation::softmax(x.matmul(self.router.clone()), 1);
        let (gates, experts) = probs.clone().topk_with_indices(top_k, 1);
        Routing { probs, experts, gates: gates.clone() / gates.sum_dim(1) }
    }

    /// The gate-weighted sum of expert outputs, computed expert by expert.
    fn mix(
        &self,
        x: &Tensor<2>,
        routing: &Routing,
        layer: LayerId,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let top_k = routing.experts.dims()[1];
        let chosen: Vec<i64> = routing.experts.clone().into_data().iter().collect();
        let mut sum = x.zeros_like();
        for (index, expert) in self.experts.iter().enumerate() {
            let places: Vec<usize> =
                (0..chosen.len()).filter(|&i| chosen[i] == index as i64).collect();
            if places.is_empty() {
                continue;
            }
            let tokens: Vec<usize> = places.iter().map(|place| place / top_k).collect();
            let gates = routing.gates.clone().flatten::<1>(0, 1).select(0, indices(&places));
            let inputs = x.clone().select(0, indices(&tokens));
            let outputs =
                activation::silu(inputs.matmul(expert.up.clone())).matmul(expert.down.clone());
            let weighted = outputs.clone() * gates.clone().unsqueeze_dim::<2>(1);
            sum = sum.select_assign(
                0,
                indices(&tokens),
                weighted,
                burn::tensor::IndexingUpdateOp::Add,
            );
            if let Some(observer) = pass.observer.as_deref_mut() {
                let activation = Activation { tokens, gates, outputs, inner: None };
                observer.activated(layer.expert(index), &activation);
            }
        }
        sum
    }
}

impl MoeModel for Toy {
    fn moe_layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &[]
    }
}

impl LanguageModel for Toy {
    fn device(&self) -> Device {
        Device::flex()
    }

    fn vocab(&self) -> usize {
        VOCAB
    }

    fn max_tokens(&self) -> usize {
        MAX_TOKENS
    }

    fn embed(&self, input: &Input) -> Stream {
        let lens = input.rows.iter().map(Vec::len).collect();
        let ids: Vec<usize> = input.rows.iter().flatten().map(|&id| id as usize).collect();
        Stream {
            hidden: self.embedding.clone().select(0, indices(&ids)),
            packing: Arc::new(Packing::new(lens, &self.device())),
        }
    }

    fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        let (block, layer) = (&self.blocks[index], LayerId::decoder(index));
        let positions = stream.packing.positions();
        let before = positions.iter().enumerate();
        let before: Vec<usize> =
            before.map(|(token, &position)| token - usize::from(position > 0)).collect();
        let hidden = stream.hidden.clone();
        let x = hidden.clone() + hidden.select(0, indices(&before)).mul_scalar(0.5);
        let routing = block.route(x.clone(), self.top_k);
        if let Some(observer) = pass.observer.as_deref_mut() {
            observer.routed(layer, &routing);
        }
        let mixed = block.mix(&x, &routing, layer, pass);
        stream.with_hidden(x + mixed)
    }

    fn head(&self, hidden: Tensor<2>, _: &mut Pass<'_>) -> Tensor<2> {
        hidden.matmul(self.embedding.clone().transpose())
    }
}

fn matrix(rng: &mut ChaCha8Rng, shape: [usize; 2]) -> Tensor<2> {
    let values: Vec<f32> =
        (0..shape[0] * shape[1]).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn indices(values: &[usize]) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    Tensor::from_data(values.as_slice(), &Device::flex())
}

use std::sync::Arc;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, activation};
use litemoe_core::{
    Activation, Input, LanguageModel, LayerId, LinearSite, MoeLayer, MoeModel, Packing, Pass,
    Routing, Stream,
};

/// Vocabulary size, number of experts and `d_model`: one of each per point of the compass.
const POINTS: usize = 4;

/// The model's only block, a mixture-of-experts (MoE) layer.
const LAYER: LayerId = LayerId::decoder(0);

/// Toy MoE model: token `e` is routed to expert `e`, which rotates it to the next point of the compass and scales it by
/// its strength.
pub struct Compass {
    layers: [MoeLayer; 1],
    strengths: [f64; POINTS],
    device: Device,
}

impl Compass {
    /// Model with these expert strengths.
    pub fn new(strengths: [f64; POINTS], device: Device) -> Self {
        let layer = MoeLayer {
            id: LAYER,
            n_experts: POINTS,
            top_k: 1,
            groups: None,
            d_model: POINTS,
            d_expert: 1,
            expert_bytes: 0,
        };
        Self { layers: [layer], strengths, device }
    }

    /// Router: selects each token's own expert, which has probability .87 (top-1).
    fn route(&self, x: Tensor<2>) -> Routing {
        let probs = activation::softmax(x.mul_scalar(3.0), 1);
        let (gates, experts) = probs.clone().topk_with_indices(1, 1);
        Routing { probs, experts, gates }
    }

    /// Activation of one expert on the tokens routed to it; `None` if there are none.
    fn activate(&self, expert: usize, x: &Tensor<2>, routing: &Routing) -> Option<Activation> {
        let chosen: Vec<i64> = routing.experts.to_data().iter().collect();
        let tokens: Vec<usize> =
            (0..chosen.len()).filter(|&token| chosen[token] == expert as i64).collect();
        if tokens.is_empty() {
            return None;
        }
        let places = self.indices(&tokens);
        let gates = routing.gates.clone().flatten::<1>(0, 1).select(0, places.clone());
        let turned: Vec<usize> = (0..POINTS).map(|point| (point + POINTS - 1) % POINTS).collect();
        let outputs = x.clone().select(0, places).select(1, self.indices(&turned));
        let outputs = outputs.mul_scalar(self.strengths[expert]);
        Some(Activation { tokens, gates, outputs, inner: None })
    }

    fn indices(&self, values: &[usize]) -> Tensor<1, Int> {
        let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
        Tensor::from_data(values.as_slice(), &self.device)
    }
}

impl MoeModel for Compass {
    fn moe_layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &[]
    }
}

impl LanguageModel for Compass {
    fn device(&self) -> Device {
        self.device.clone()
    }

    fn vocab(&self) -> usize {
        POINTS
    }

    fn max_tokens(&self) -> usize {
        64
    }

    fn embed(&self, input: &Input) -> Stream {
        let lens = input.rows.iter().map(Vec::len).collect();
        let ids: Vec<usize> = input.rows.iter().flatten().map(|&id| id as usize).collect();
        Stream {
            hidden: Tensor::<2>::eye(POINTS, &self.device).select(0, self.indices(&ids)),
            packing: Arc::new(Packing::new(lens, &self.device)),
        }
    }

    fn n_blocks(&self) -> usize {
        1
    }

    fn block(&self, _: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        let x = stream.hidden.clone();
        let routing = self.route(x.clone());
        if let Some(observer) = pass.observer.as_deref_mut() {
            observer.routed(LAYER, &routing);
        }
        let mut sum = x.clone();
        for expert in 0..POINTS {
            let Some(activation) = self.activate(expert, &x, &routing) else { continue };
            if let Some(observer) = pass.observer.as_deref_mut() {
                observer.activated(LAYER.expert(expert), &activation);
            }
            let weighted = activation.outputs * activation.gates.unsqueeze_dim::<2>(1);
            let tokens = self.indices(&activation.tokens);
            sum = sum.select_assign(0, tokens, weighted, IndexingUpdateOp::Add);
        }
        stream.with_hidden(sum)
    }

    fn head(&self, hidden: Tensor<2>, _: &mut Pass<'_>) -> Tensor<2> {
        hidden
    }
}

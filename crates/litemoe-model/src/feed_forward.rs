use burn::tensor::{Tensor, activation};
use litemoe_core::{Activation, Adapters, LayerId, Packing, Pass, RouterNoise};
use litemoe_kernels::{ExpertBank, LinearWeight, silu_mul};

use crate::linear::Linear;
use crate::router::Router;

/// What follows the attention in a block.
#[derive(Debug)]
pub(crate) enum FeedForward {
    Dense(Box<Dense>),
    Moe(Box<Moe>),
}

impl FeedForward {
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        packing: &Packing,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        match self {
            Self::Dense(dense) => dense.forward(x, pass.adapters),
            Self::Moe(moe) => moe.forward(x, packing, pass),
        }
    }

    /// The linear layers an adapter can stand beside.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Dense(dense) => dense.linears().into(),
            Self::Moe(moe) => {
                moe.shared.iter().flat_map(|shared| shared.network.linears()).collect()
            }
        }
    }
}

/// `down(silu(gate(x)) * up(x))`
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl Dense {
    fn linears(&self) -> [&Linear; 3] {
        [&self.gate, &self.up, &self.down]
    }

    fn forward(&self, x: Tensor<2>, adapters: Option<&Adapters>) -> Tensor<2> {
        let gate = self.gate.forward(x.clone(), adapters);
        let up = self.up.forward(x, adapters);
        self.down.forward(silu_mul(Tensor::cat(vec![gate, up], 1)), adapters)
    }
}

/// Routed experts.
#[derive(Debug)]
pub(crate) struct Moe {
    pub(crate) id: LayerId,
    pub(crate) router: Router,
    pub(crate) experts: ExpertBank,
    pub(crate) shared: Option<Shared>,
}

/// An expert that every token goes through, weighted by a gate of its own.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) network: Dense,
    /// To one value, whose sigmoid is the gate.
    pub(crate) gate: LinearWeight,
}

impl Shared {
    fn forward(&self, x: Tensor<2>, adapters: Option<&Adapters>) -> Tensor<2> {
        let gate = activation::sigmoid(self.gate.forward(x.clone()));
        self.network.forward(x, adapters) * gate
    }
}

impl Moe {
    fn forward(&self, x: Tensor<2>, packing: &Packing, pass: &mut Pass<'_>) -> Tensor<2> {
        let routed = self.routed(x.clone(), packing, pass);
        match &self.shared {
            Some(shared) => routed + shared.forward(x, pass.adapters),
            None => routed,
        }
    }

    fn routed(&self, x: Tensor<2>, packing: &Packing, pass: &mut Pass<'_>) -> Tensor<2> {
        let n_rows = self.router.weight.d_out();
        let noise = |noise: &RouterNoise| noise.sample(self.id, packing, n_rows, &x.device());
        let noise = pass.router_noise.map(noise);
        let routing = self.router.route(x.clone(), noise);
        let Some(observer) = pass.observer.as_deref_mut() else {
            return self.experts.forward(x, routing.experts, routing.gates, None);
        };
        observer.routed(self.id, &routing);
        if !observer.wants_activations() {
            return self.experts.forward(x, routing.experts, routing.gates, None);
        }
        let mut visit = |expert, tokens, gates, outputs| {
            observer.activated(self.id.expert(expert), &Activation { tokens, gates, outputs });
        };
        self.experts.forward(x, routing.experts, routing.gates, Some(&mut visit))
    }
}

use burn::tensor::{Tensor, activation};
use litemoe_core::{
    Activation, Adapters, LayerId, LinearSite, Packing, Pass, RouterNoise, Routing,
};
use litemoe_kernels::{ExpertBank, ExpertVisit, ExpertWork, HiddenAct, LinearWeight};

use crate::layers::ExpertSites;
use crate::layers::capacity::within_capacity;
use crate::layers::linear::Linear;
use crate::layers::router::Router;
use crate::layers::router_bias::LayerBias;

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

    /// The linear layers an adapter can stand beside, routed experts left out.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Dense(dense) => dense.linears(),
            Self::Moe(moe) => {
                moe.shared.iter().flat_map(|shared| shared.network.linears()).collect()
            }
        }
    }

    /// The routed experts' matrices that an adapter can stand beside.
    pub(crate) fn expert_sites(&self) -> Vec<LinearSite> {
        match self {
            Self::Dense(_) => Vec::new(),
            Self::Moe(moe) => moe.sites.linear_sites().collect(),
        }
    }
}

/// `down(act(gate(x)) * up(x))`, without a gate `down(act(up(x)))`
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) act: HiddenAct,
}

impl Dense {
    fn linears(&self) -> Vec<&Linear> {
        self.gate.iter().chain([&self.up, &self.down]).collect()
    }

    fn forward(&self, x: Tensor<2>, adapters: Option<&Adapters>) -> Tensor<2> {
        let up = self.up.forward(x.clone(), adapters);
        let inner = match &self.gate {
            Some(gate) => self.act.gated(Tensor::cat(vec![gate.forward(x, adapters), up], 1)),
            None => self.act.apply(up),
        };
        self.down.forward(inner, adapters)
    }
}

/// Routed experts.
#[derive(Debug)]
pub(crate) struct Moe {
    pub(crate) id: LayerId,
    pub(crate) router: Router,
    pub(crate) experts: ExpertBank,
    /// Where an adapter finds the experts.
    pub(crate) sites: ExpertSites,
    pub(crate) shared: Option<Shared>,
    /// The tokens of a row that an expert takes.
    pub(crate) capacity: Option<usize>,
}

/// An expert that every token goes through.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) network: Dense,
    /// To one value, whose sigmoid is the expert's gate.
    pub(crate) gate: Option<LinearWeight>,
}

impl Shared {
    fn forward(&self, x: Tensor<2>, adapters: Option<&Adapters>) -> Tensor<2> {
        let Some(gate) = &self.gate else { return self.network.forward(x, adapters) };
        let gate = activation::sigmoid(gate.forward(x.clone()));
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
        let routing = self.route(x.clone(), packing, pass);
        let adapters = pass.adapters;
        let Some(observer) = pass.observer.as_deref_mut() else {
            return self.mix(x, routing, adapters, None);
        };
        observer.routed(self.id, &routing);
        if !observer.wants_activations() {
            return self.mix(x, routing, adapters, None);
        }
        let wants_inner = observer.wants_inner();
        let mut see = |ExpertWork { expert, rows, gates, outputs, inner }: ExpertWork| {
            let activation = Activation { tokens: rows, gates, outputs, inner };
            observer.activated(self.id.expert(expert), &activation);
        };
        self.mix(x, routing, adapters, Some(ExpertVisit { see: &mut see, wants_inner }))
    }

    fn mix(
        &self,
        x: Tensor<2>,
        Routing { experts, gates, .. }: Routing,
        adapters: Option<&Adapters>,
        visit: Option<ExpertVisit<'_>>,
    ) -> Tensor<2> {
        match self.sites.reached(adapters) {
            Some(adapters) => {
                let update = |expert| self.sites.update(adapters, expert);
                self.experts.forward_adapted(x, experts, gates, &update, visit)
            }
            None => self.experts.forward(x, experts, gates, visit),
        }
    }

    fn route(&self, x: Tensor<2>, packing: &Packing, pass: &Pass<'_>) -> Routing {
        let n_rows = self.router.weight.d_out();
        let noise = |noise: &RouterNoise| noise.sample(self.id, packing, n_rows, &x.device());
        let noise = pass.router_noise.map(noise);
        let bias = LayerBias::new(&pass.router_bias, self.id, packing, n_rows, &x.device());
        let routing = self.router.route(x, noise, bias);
        match self.capacity {
            Some(capacity) => {
                within_capacity(routing, packing.row_lens(), capacity, self.experts.n_experts())
            }
            None => routing,
        }
    }
}

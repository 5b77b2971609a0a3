use std::ops::Range;

use burn::tensor::{Tensor, activation};
use litemoe_core::{
    Activation, Adapters, ByTokens, LayerId, LinearSite, Pass, RouterNoise, Routing,
};
use litemoe_kernels::{ExpertBank, ExpertVisit, ExpertWork, HiddenAct};

use crate::layers::ExpertSites;
use crate::layers::context::LayerContext;
use crate::layers::expert_capacity::within_capacity;
use crate::layers::linear::Linear;
use crate::layers::router::Router;
use crate::layers::router_bias::LayerBias;

/// Feed-forward layer of a block.
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
        context: LayerContext<'_>,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        match self {
            Self::Dense(dense) => dense.forward(x, context.adapters),
            Self::Moe(moe) => moe.forward(x, context, pass),
        }
    }

    /// Linear layers that accept a LoRA adapter, without router and routed experts.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Dense(dense) => dense.linears(),
            Self::Moe(moe) => moe.shared.iter().flat_map(SharedExpert::linears).collect(),
        }
    }

    /// Router and projections of routed experts, which accept a LoRA adapter.
    pub(crate) fn routed_sites(&self) -> Vec<LinearSite> {
        match self {
            Self::Dense(_) => Vec::new(),
            Self::Moe(moe) => {
                let router = moe.router.linear_site(moe.id);
                std::iter::once(router).chain(moe.sites.linear_sites()).collect()
            }
        }
    }
}

/// Dense MLP: gated `down(act(gate(x)) * up(x))`, e.g. SwiGLU, or ungated `down(act(up(x)))`.
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

    fn forward(&self, x: Tensor<2>, adapters: &ByTokens<'_, Adapters>) -> Tensor<2> {
        let up = self.up.forward(x.clone(), adapters);
        let inner = match &self.gate {
            Some(gate) => self.act.gated(Tensor::cat(vec![gate.forward(x, adapters), up], 1)),
            None => self.act.apply(up),
        };
        self.down.forward(inner, adapters)
    }
}

/// Mixture of experts (MoE) layer.
#[derive(Debug)]
pub(crate) struct Moe {
    pub(crate) id: LayerId,
    pub(crate) router: Router,
    pub(crate) experts: ExpertBank,
    /// Module paths of the experts, for adapters.
    pub(crate) sites: ExpertSites,
    pub(crate) shared: Option<SharedExpert>,
    /// Expert capacity: tokens of a row that an expert accepts.
    pub(crate) capacity: Option<usize>,
}

/// Shared expert, which every token passes through.
#[derive(Debug)]
pub(crate) struct SharedExpert {
    pub(crate) network: Dense,
    /// Projection to one logit; its sigmoid is the expert's gate.
    pub(crate) gate: Option<Linear>,
}

impl SharedExpert {
    fn linears(&self) -> Vec<&Linear> {
        self.network.linears().into_iter().chain(&self.gate).collect()
    }

    fn forward(&self, x: Tensor<2>, adapters: &ByTokens<'_, Adapters>) -> Tensor<2> {
        let Some(gate) = &self.gate else { return self.network.forward(x, adapters) };
        let gate = activation::sigmoid(gate.forward(x.clone(), adapters));
        self.network.forward(x, adapters) * gate
    }
}

impl Moe {
    fn forward(&self, x: Tensor<2>, context: LayerContext<'_>, pass: &mut Pass<'_>) -> Tensor<2> {
        let routed = self.routed(x.clone(), context, pass);
        match &self.shared {
            Some(shared) => routed + shared.forward(x, context.adapters),
            None => routed,
        }
    }

    fn routed(&self, x: Tensor<2>, context: LayerContext<'_>, pass: &mut Pass<'_>) -> Tensor<2> {
        let routing = self.route(x.clone(), context, pass);
        if let Some(observer) = pass.observer.as_deref_mut() {
            observer.routed(self.id, &routing);
        }
        let reached = context.adapters.filter(|adapters| self.sites.are_reached(adapters));
        let pieces = reached.pieces();
        if let [(_, adapters)] = pieces[..] {
            return self.mix(x, routing, adapters, 0, pass);
        }
        let piece = |(tokens, adapters): (Range<usize>, Option<&Adapters>)| {
            let x = x.clone().narrow(0, tokens.start, tokens.len());
            self.mix(x, routing.narrow(tokens.clone()), adapters, tokens.start, pass)
        };
        Tensor::cat(pieces.into_iter().map(piece).collect(), 0)
    }

    /// Expert outputs of packed tokens that share an adapter; `first` is the index of the first one.
    fn mix(
        &self,
        x: Tensor<2>,
        Routing { experts, gates, .. }: Routing,
        adapters: Option<&Adapters>,
        first: usize,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let update = |expert| {
            adapters.map_or_else(Default::default, |adapters| self.sites.adapters(adapters, expert))
        };
        let observer = pass.observer.as_deref_mut().filter(|observer| observer.wants_activations());
        let Some(observer) = observer else {
            return self.experts.forward_adapted(x, experts, gates, &update, None);
        };
        let wants_inner = observer.wants_inner();
        let mut see = |ExpertWork { expert, rows, gates, outputs, inner }: ExpertWork| {
            let tokens = rows.into_iter().map(|row| first + row).collect();
            let activation = Activation { tokens, gates, outputs, inner };
            observer.activated(self.id.expert(expert), &activation);
        };
        let visit = Some(ExpertVisit { see: &mut see, wants_inner });
        self.experts.forward_adapted(x, experts, gates, &update, visit)
    }

    fn route(&self, x: Tensor<2>, context: LayerContext<'_>, pass: &Pass<'_>) -> Routing {
        let (packing, n_rows) = (context.packing, self.router.n_rows());
        let noise = |noise: &RouterNoise| noise.sample(self.id, packing, n_rows, &x.device());
        let noise = pass.router_noise.map(noise);
        let bias = LayerBias::new(&pass.router_bias, self.id, packing, n_rows, &x.device());
        let routing = self.router.route(x, context.adapters, noise, bias);
        match self.capacity {
            Some(capacity) => {
                within_capacity(routing, packing.row_lens(), capacity, self.experts.n_experts())
            }
            None => routing,
        }
    }
}

use burn::tensor::Tensor;
use litemoe_core::{Adapters, ByTokens, LayerId, LinearRole, LinearSite, Routing, Site};

use crate::layers::gating::TopKGating;
use crate::layers::linear::Linear;
use crate::layers::redirection::Redirection;
use crate::layers::router_bias::LayerBias;

/// Router: chooses experts for every token.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) linear: Linear,
    /// Module whose parameter transformers holds the weight as, see [`LinearSite::parameter`].
    pub(crate) parameter: Option<Site>,
    pub(crate) gating: TopKGating,
    /// Router redirection, in a proxy that keeps the foundation's router.
    pub(crate) redirection: Option<Redirection>,
}

impl Router {
    /// Number of router logits: experts, or the foundation's in a proxy that keeps its router.
    pub(crate) fn n_rows(&self) -> usize {
        self.linear.weight.d_out()
    }

    /// Its module path and widths.
    pub(crate) fn linear_site(&self, layer: LayerId) -> LinearSite {
        let site = self.linear.site(LinearRole::Router { layer });
        LinearSite { parameter: self.parameter.clone(), ..site }
    }

    /// Routes each token to its experts.
    ///
    /// Adds the noise, if given, to the router logits. In a proxy, `probs` is what reaches each of its own experts.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_model]`
    /// - `noise`: `[tokens, n_rows]`, from [`RouterNoise::sample`](litemoe_core::RouterNoise::sample)
    /// - output: see [`Routing`]
    pub(crate) fn route(
        &self,
        x: Tensor<2>,
        adapters: &ByTokens<'_, Adapters>,
        noise: Option<Tensor<2>>,
        bias: Option<LayerBias>,
    ) -> Routing {
        let logits = self.linear.forward(x, adapters);
        let logits = match noise {
            Some(noise) => logits + noise,
            None => logits,
        };
        match &self.redirection {
            // The plan fixes a proxy's routing; a bias on top of it is added to the foundation's router logits.
            Some(redirection) => {
                let logits = bias.into_iter().fold(logits, |logits, bias| logits + bias.logits);
                redirection.route(logits, &self.gating)
            }
            None => self.gating.choose(logits, bias),
        }
    }
}

use burn::tensor::Tensor;
use litemoe_core::Routing;
use litemoe_kernels::LinearWeight;

use crate::layers::gating::TopKGating;
use crate::layers::redirection::Redirection;
use crate::layers::router_bias::LayerBias;

/// Chooses experts for every token.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) weight: LinearWeight,
    /// Of the logits, `[1, n_rows]`.
    pub(crate) bias: Option<Tensor<2>>,
    pub(crate) gating: TopKGating,
    /// In a proxy that keeps the foundation's router: where its rows lead.
    pub(crate) redirection: Option<Redirection>,
}

impl Router {
    /// Sends each token to its experts.
    ///
    /// Noise, when given, comes on top of the logits. In a proxy, `probs` is what reaches each of its own experts.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_model]`
    /// - `noise`: what [`RouterNoise::sample`](litemoe_core::RouterNoise::sample) draws for the router's rows, `[tokens, n_rows]`
    /// - output: see [`Routing`]
    pub(crate) fn route(
        &self,
        x: Tensor<2>,
        noise: Option<Tensor<2>>,
        bias: Option<LayerBias>,
    ) -> Routing {
        let logits = self.weight.forward(x);
        let logits = match &self.bias {
            Some(bias) => logits + bias.clone(),
            None => logits,
        };
        let logits = match noise {
            Some(noise) => logits + noise,
            None => logits,
        };
        match &self.redirection {
            // A proxy's router is what its plan made of the foundation's; a bias on top is added to the foundation's logits.
            Some(redirection) => {
                let logits = bias.into_iter().fold(logits, |logits, bias| logits + bias.logits);
                redirection.route(logits, &self.gating)
            }
            None => self.gating.choose(logits, bias),
        }
    }
}

use burn::tensor::Tensor;
use litemoe_core::Routing;
use litemoe_kernels::LinearWeight;

use crate::layers::gating::TopKGating;
use crate::layers::redirection::Redirection;
use crate::layers::router_bias::LayerBias;

/// Router: chooses experts for every token.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) weight: LinearWeight,
    /// Bias of the router logits, `[1, n_rows]`.
    pub(crate) bias: Option<Tensor<2>>,
    pub(crate) gating: TopKGating,
    /// Router redirection, in a proxy that keeps the foundation's router.
    pub(crate) redirection: Option<Redirection>,
}

impl Router {
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
            // The plan fixes a proxy's routing; a bias on top of it is added to the foundation's router logits.
            Some(redirection) => {
                let logits = bias.into_iter().fold(logits, |logits, bias| logits + bias.logits);
                redirection.route(logits, &self.gating)
            }
            None => self.gating.choose(logits, bias),
        }
    }
}

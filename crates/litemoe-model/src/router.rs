use burn::tensor::{Tensor, activation};
use litemoe_core::Routing;
use litemoe_kernels::LinearWeight;

use crate::redirection::Redirection;

/// Softmax over all experts, then the `top_k` most probable.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) weight: LinearWeight,
    pub(crate) top_k: usize,
    /// Whether the chosen probabilities are divided by their sum.
    pub(crate) renormalise: bool,
    /// In a proxy that keeps the foundation's router: where its rows lead.
    pub(crate) redirection: Option<Redirection>,
}

impl Router {
    /// Routes each token to its `top_k` most probable experts.
    ///
    /// Noise, when given, comes on top of the logits. In a proxy, `probs` is the probability that reaches each of its own experts.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_model]`
    /// - `noise`: what [`RouterNoise::sample`](litemoe_core::RouterNoise::sample) draws for the router's rows, `[tokens, n_rows]`
    /// - output: see [`Routing`]
    pub(crate) fn route(&self, x: Tensor<2>, noise: Option<Tensor<2>>) -> Routing {
        let logits = self.weight.forward(x);
        let logits = match noise {
            Some(noise) => logits + noise,
            None => logits,
        };
        match &self.redirection {
            Some(redirection) => redirection.route(logits, |probs| self.choose(probs)),
            None => self.choose(activation::softmax(logits, 1)),
        }
    }

    /// The most probable experts and their gates.
    fn choose(&self, probs: Tensor<2>) -> Routing {
        let (gates, experts) = probs.clone().topk_with_indices(self.top_k, 1);
        let gates = match self.renormalise {
            true => gates.clone() / gates.sum_dim(1),
            false => gates,
        };
        Routing { probs, experts, gates }
    }
}

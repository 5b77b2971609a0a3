use burn::tensor::{Int, Tensor, activation};
use litemoe_core::Routing;

use crate::config::{GroupConfig, GroupScore, RouterKind};
use crate::layers::mask::MASKED;
use crate::layers::router_bias::LayerBias;
use crate::layers::sparse_mixer;

/// Top-k gating: chooses experts by their scores.
#[derive(Debug)]
pub(crate) struct TopKGating {
    pub(crate) kind: RouterKind,
    pub(crate) top_k: usize,
    /// Score correction bias, which affects only the choice, `[1, n_experts]`.
    pub(crate) correction: Option<Tensor<2>>,
    /// Group-limited routing.
    pub(crate) groups: Option<GroupConfig>,
    /// Whether the gates are divided by their sum.
    pub(crate) renormalise: bool,
    /// Factor on the gates.
    pub(crate) scale: f64,
}

impl TopKGating {
    pub(crate) fn choose(&self, logits: Tensor<2>, bias: Option<LayerBias>) -> Routing {
        let (scores, logits, barred) = match bias {
            None => (self.scores(logits.clone()), logits, None),
            Some(bias) => {
                let scores = self.biased_scores(logits.clone(), &bias);
                (scores, logits + bias.logits, Some(bias.barred))
            }
        };
        let (experts, gates) = self.best(scores.clone(), barred, || logits);
        Routing { probs: self.probs(scores), experts, gates }
    }

    /// Router scores under a router bias.
    fn biased_scores(&self, logits: Tensor<2>, bias: &LayerBias) -> Tensor<2> {
        match self.kind {
            // Its scores are logits; its gates use no softmax over all experts.
            RouterKind::SparseMixer { .. } => logits + bias.logits.clone(),
            _ => self.scores(logits + bias.before.clone()) * bias.after.clone(),
        }
    }

    /// Router scores from router logits, `[tokens, n_experts]`.
    pub(crate) fn scores(&self, logits: Tensor<2>) -> Tensor<2> {
        match self.kind {
            RouterKind::Softmax => activation::softmax(logits, 1),
            RouterKind::Sigmoid | RouterKind::InputSigmoid => activation::sigmoid(logits),
            RouterKind::SparseMixer { .. } => logits,
        }
    }

    /// Router scores as probabilities: each row sums to 1, less what a redirection or a bias removed.
    pub(crate) fn probs(&self, scores: Tensor<2>) -> Tensor<2> {
        match self.kind {
            RouterKind::Softmax => scores,
            RouterKind::Sigmoid | RouterKind::InputSigmoid => {
                scores.clone() / scores.sum_dim(1).clamp_min(f32::MIN_POSITIVE)
            }
            RouterKind::SparseMixer { .. } => activation::softmax(scores, 1),
        }
    }

    /// Top-k experts and their gates, `[tokens, top_k]` each; some router kinds choose by logits. `barred` is 0, or
    /// [`MASKED`] at experts that must not be chosen.
    pub(crate) fn best(
        &self,
        scores: Tensor<2>,
        barred: Option<Tensor<2>>,
        logits: impl FnOnce() -> Tensor<2>,
    ) -> (Tensor<2, Int>, Tensor<2>) {
        let unbarred = |by: Tensor<2>| match barred {
            Some(barred) => by + barred,
            None => by,
        };
        match self.kind {
            RouterKind::SparseMixer { jitter } => sparse_mixer::choose(&unbarred(logits()), jitter),
            // Sigmoids of large logits are all 1; the logits remain distinct.
            RouterKind::InputSigmoid => self.take(scores, unbarred(logits())),
            RouterKind::Softmax | RouterKind::Sigmoid => {
                self.take(scores.clone(), unbarred(scores))
            }
        }
    }

    /// Top-k experts by `by`, with gates from `scores`.
    fn take(&self, scores: Tensor<2>, by: Tensor<2>) -> (Tensor<2, Int>, Tensor<2>) {
        let by = match &self.correction {
            Some(correction) => by + correction.clone(),
            None => by,
        };
        let by = match self.groups {
            Some(groups) => within_groups(by, groups),
            None => by,
        };
        let (_, experts) = by.topk_with_indices(self.top_k, 1);
        let gates = scores.gather(1, experts.clone());
        let gates = match self.renormalise {
            // Sigmoids may all be zero; the reference adds the same ε.
            true if self.kind == RouterKind::Sigmoid => {
                gates.clone() / gates.sum_dim(1).add_scalar(1e-20)
            }
            true => gates.clone() / gates.sum_dim(1),
            false => gates,
        };
        let gates = if self.scale == 1.0 { gates } else { gates.mul_scalar(self.scale) };
        (experts, gates)
    }
}

/// Group-limited routing: masks scores outside the best groups, `[tokens, n_experts]`.
fn within_groups(scores: Tensor<2>, groups: GroupConfig) -> Tensor<2> {
    let GroupConfig { n_groups, top_groups, score } = groups;
    let [tokens, n_experts] = scores.dims();
    let size = n_experts / n_groups;
    let grouped = scores.clone().reshape([tokens, n_groups, size]);
    let n_best = match score {
        GroupScore::Best => 1,
        GroupScore::BestTwo => 2,
    };
    let best: Tensor<2> = grouped.topk(n_best, 2).sum_dim(2).squeeze_dim(2);
    let (_, chosen) = best.topk_with_indices(top_groups, 1);
    let device = scores.device();
    let all = Tensor::<1, Int>::arange(0..n_groups as i64, &device).reshape([1, 1, n_groups]);
    let square = [tokens, top_groups, n_groups];
    let is_chosen = chosen.unsqueeze_dim::<3>(2).expand(square).equal(all.expand(square));
    let outside: Tensor<2> = is_chosen.float().sum_dim(1).squeeze_dim(1).equal_elem(0.0).float();
    let outside = outside.unsqueeze_dim::<3>(2).expand([tokens, n_groups, size]);
    scores.mask_fill(outside.reshape([tokens, n_experts]).bool(), MASKED)
}

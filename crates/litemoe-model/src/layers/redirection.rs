use burn::tensor::{Device, Int, Tensor, TensorData};
use litemoe_core::{LayerPlan, RouterRule, Routing};

use crate::layers::gating::TopKGating;
use crate::layers::mask::MASKED;

/// Router redirection, in a proxy that keeps the foundation's router: maps `n` router rows to `m` experts (LiteMoE
/// §3.4, doi 10.1145/3666025.3699355). A row of an absorbed expert maps to its centroid.
#[derive(Debug)]
pub(crate) struct Redirection {
    order: Order,
    /// 1 where router row i maps to expert j, `[n, m]`; zero rows for removed experts.
    to: Tensor<2>,
    /// Expert of each row, `m` for removed experts, `[n]`.
    centroids: Tensor<1, Int>,
    /// [`MASKED`] at rows without an expert, else 0, `[1, n]`.
    mask: Tensor<2>,
    /// Router row of each centroid expert, `[m]`.
    own_rows: Tensor<1, Int>,
    n_experts: usize,
}

/// Order of top-k and redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Scores move to the centroids, then top-k.
    MoveThenChoose,
    /// Top-k among the rows with an expert, then each choice moves to its centroid.
    ChooseThenMove,
    /// Top-k among the centroids' own rows, by scores over all rows.
    ScoreThenChoose,
}

impl Redirection {
    /// `None` where the rule or the plan leaves the router unchanged.
    pub(crate) fn new(plan: &LayerPlan, rule: RouterRule, device: &Device) -> Option<Self> {
        let order = match rule {
            RouterRule::DropRows => return None,
            RouterRule::Redirect => Order::MoveThenChoose,
            RouterRule::RedirectSelected => Order::ChooseThenMove,
            RouterRule::Mask => Order::ScoreThenChoose,
        };
        if plan.is_identity() {
            return None;
        }
        let (mut to, n_experts) = (plan.redirections(), plan.groups.len());
        if order == Order::ScoreThenChoose {
            // An absorbed expert brings its centroid no tokens.
            plan.groups.iter().flat_map(|group| &group.absorbed).for_each(|m| to[m.expert] = None);
        }
        let centroids: Vec<i64> = to.iter().map(|to| to.unwrap_or(n_experts) as i64).collect();
        let mask: Vec<f32> = to.iter().map(|to| if to.is_some() { 0.0 } else { MASKED }).collect();
        let own_rows: Vec<i64> = plan.centroids().iter().map(|&centroid| centroid as i64).collect();
        let one_hot = |to: &Option<usize>| {
            let to = *to;
            (0..n_experts).map(move |expert| if to == Some(expert) { 1.0 } else { 0.0f32 })
        };
        let one_hot: Vec<f32> = to.iter().flat_map(one_hot).collect();
        Some(Self {
            order,
            to: Tensor::from_data(TensorData::new(one_hot, [to.len(), n_experts]), device),
            centroids: Tensor::from_data(centroids.as_slice(), device),
            mask: Tensor::from_data(TensorData::new(mask, [1, to.len()]), device),
            own_rows: Tensor::from_data(own_rows.as_slice(), device),
            n_experts,
        })
    }

    /// Selects from `[1, n]` the values of the experts that top-k compares: the centroids' own if scores move first.
    pub(crate) fn of_experts(&self, rows: Tensor<2>) -> Tensor<2> {
        match self.order {
            Order::MoveThenChoose => rows.select(1, self.own_rows.clone()),
            Order::ChooseThenMove | Order::ScoreThenChoose => rows,
        }
    }

    /// Routes by the foundation's router logits, `[tokens, n]`.
    pub(crate) fn route(&self, logits: Tensor<2>, gating: &TopKGating) -> Routing {
        match self.order {
            Order::MoveThenChoose => self.redirect(logits, gating),
            Order::ChooseThenMove => {
                self.choose(logits.clone() + self.mask.clone(), logits, gating)
            }
            Order::ScoreThenChoose => self.choose(logits.clone(), logits, gating),
        }
    }

    /// Moves the scores to the centroids, then chooses among those.
    fn redirect(&self, logits: Tensor<2>, gating: &TopKGating) -> Routing {
        let scores = gating.scores(logits.clone());
        let probs = gating.probs(scores.clone()).matmul(self.to.clone());
        let scores = scores.matmul(self.to.clone());
        let (experts, gates) = gating.best(scores, None, || self.merged_logits(logits));
        Routing { probs, experts, gates }
    }

    /// Logit of each expert: log-sum-exp over its rows, unchanged for a single row.
    fn merged_logits(&self, logits: Tensor<2>) -> Tensor<2> {
        let outside = self.to.clone().sub_scalar(1.0).mul_scalar(-MASKED);
        let rows: Tensor<3> = logits.unsqueeze_dim::<3>(2) + outside.unsqueeze_dim::<3>(0);
        let max = rows.clone().detach().max_dim(1);
        ((rows - max.clone()).exp().sum_dim(1).log() + max).squeeze_dim(1)
    }

    /// Chooses among the rows with an expert, by the scores of `scored` logits, then moves each choice to its centroid.
    fn choose(&self, scored: Tensor<2>, logits: Tensor<2>, gating: &TopKGating) -> Routing {
        let scores = gating.scores(scored);
        let (experts, gates) = gating.best(scores.clone(), Some(self.mask.clone()), || logits);
        let centroids = self.centroids.clone().select(0, experts.clone().flatten(0, 1));
        let (experts, gates) = self.add_up(centroids.reshape(experts.dims()), gates);
        Routing { probs: gating.probs(scores).matmul(self.to.clone()), experts, gates }
    }

    /// Adds the gates of a token's equal experts up in the first of them; the other places become empty (expert `m`,
    /// gate 0).
    fn add_up(&self, experts: Tensor<2, Int>, gates: Tensor<2>) -> (Tensor<2, Int>, Tensor<2>) {
        let [tokens, top_k] = experts.dims();
        let square = [tokens, top_k, top_k];
        let of_place = experts.clone().unsqueeze_dim::<3>(2).expand(square);
        let of_other = experts.clone().unsqueeze_dim::<3>(1).expand(square);
        let same = of_place.equal(of_other).float();
        let before = same.clone().tril(-1).sum_dim(2).reshape([tokens, top_k]);
        let repeated = before.greater_elem(0.0);
        let sums = same.matmul(gates.unsqueeze_dim(2)).reshape([tokens, top_k]);
        let empty = self.n_experts as i64;
        (experts.mask_fill(repeated.clone(), empty), sums.mask_fill(repeated, 0.0))
    }
}

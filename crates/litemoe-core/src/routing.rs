use std::ops::Range;

use burn::tensor::{Int, Tensor};

use crate::name::named_enum;

/// Routing decision: the router's output for each token.
#[derive(Debug, Clone)]
pub struct Routing {
    /// p: router probabilities over all experts, before top-k and redirection; each row sums to 1,
    /// `[tokens, n_experts]`.
    pub probs: Tensor<2>,
    /// Indices of the selected experts, `[tokens, top_k]`.
    pub experts: Tensor<2, Int>,
    /// g: routing weights (gates), the factors of the selected experts' outputs as applied, `[tokens, top_k]`. 0 in
    /// slots that a redirection left unused.
    pub gates: Tensor<2>,
}

impl Routing {
    /// Routing of a range of tokens.
    pub fn narrow(&self, tokens: Range<usize>) -> Self {
        let (start, len) = (tokens.start, tokens.len());
        Self {
            probs: self.probs.clone().narrow(0, start, len),
            experts: self.experts.clone().narrow(0, start, len),
            gates: self.gates.clone().narrow(0, start, len),
        }
    }
}

named_enum! {
    /// Router rule: treatment of removed and absorbed experts by a proxy's router (LiteMoE §3.4, doi
    /// 10.1145/3666025.3699355).
    RouterRule, "router rule", {
        /// Adds the probability of absorbed experts to their centroid, then selects the top-k.
        Redirect = "redirect": "add an absorbed expert's probability to its centroid, then select the top-k (LiteMoE)",
        /// Selects the top-k among kept and absorbed experts, then redirects each selection to its centroid.
        RedirectSelected = "redirect_selected": "select the top-k, then replace absorbed experts by their centroids",
        /// Deletes the router rows of removed and absorbed experts; the proxy loads in stock runtimes.
        DropRows = "drop_rows": "delete the router rows of pruned and absorbed experts; transformers loads such a proxy",
        /// Keeps all router rows and the softmax over them, then selects the top-k among the kept experts: without
        /// renormalisation, gates keep the scale they were trained with.
        Mask = "mask": "keep the softmax over all experts, select the top-k among the kept ones",
    }
}

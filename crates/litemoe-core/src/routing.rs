use std::ops::Range;

use burn::tensor::{Int, Tensor};

use crate::name::named_enum;

/// Where a router sent its tokens.
#[derive(Debug, Clone)]
pub struct Routing {
    /// p: the router's activated scores over all experts, each row summing to 1, `[tokens, n_experts]`.
    /// Before top-k and before any redirection.
    pub probs: Tensor<2>,
    /// The chosen experts, `[tokens, top_k]`.
    pub experts: Tensor<2, Int>,
    /// g: the factor each chosen expert's output is really multiplied by, `[tokens, top_k]`. Zero where
    /// a redirection left a place unused.
    pub gates: Tensor<2>,
}

impl Routing {
    /// That of some of the tokens.
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
    /// What a proxy's router does with the experts that the plan took out (LiteMoE §3.4, doi 10.1145/3666025.3699355).
    RouterRule, "router rule", {
        /// Merged experts' probability is added to their host's, then the top-k are chosen.
        Redirect = "redirect",
        /// The top-k are chosen among kept and merged experts, then each choice moves to its host.
        RedirectSelected = "redirect_selected",
        /// The removed and merged experts' router rows are deleted; loads in stock runtimes.
        DropRows = "drop_rows",
        /// All rows are kept and the softmax is over all of them, then the top-k are chosen among the kept experts: gates that
        /// are not divided by their sum keep the scale they were trained with.
        Mask = "mask",
    }
}

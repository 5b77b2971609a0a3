use clap::Args;
use litemoe_core::{
    Alignment, Budget, Criterion, MergeMethod, PlanOptions, RouterRule, SimilarityKind,
};
use serde::{Deserialize, Serialize};

/// How a plan is made; the same on `plan` and `customize`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct PlanArgs {
    /// Expert bytes the proxy may keep: a share of the foundation's, or an amount such as 4MiB.
    #[arg(long, default_value_t = PlanOptions::default().budget)]
    pub(crate) budget: Budget,
    /// The score that ranks the experts.
    #[arg(long, default_value_t = PlanOptions::default().score)]
    pub(crate) score: Criterion,
    /// What becomes of experts that matter somewhat: none (they are removed) or litemoe (they are merged).
    #[arg(long, default_value_t = PlanOptions::default().merge)]
    pub(crate) merge: MergeMethod,
    /// What makes two experts alike, when merging: affinity or expert_output_gated.
    #[arg(long, default_value_t = PlanOptions::default().similarity)]
    pub(crate) similarity: SimilarityKind,
    /// Experts below this share of the uniform score are removed, not merged.
    #[arg(long, default_value_t = PlanOptions::default().alpha)]
    pub(crate) cold: f64,
    /// At most this many experts are merged into one.
    #[arg(long, default_value_t = PlanOptions::default().max_merged)]
    pub(crate) max_merged: usize,
    /// How a merged expert's neurons are matched to its host's: hungarian or none.
    #[arg(long, default_value_t = PlanOptions::default().alignment)]
    pub(crate) alignment: Alignment,
    /// What the proxy's router does with the experts taken out: drop_rows, mask, redirect
    /// or redirect_selected.
    #[arg(long, default_value_t = PlanOptions::default().router)]
    pub(crate) router: RouterRule,
}

impl PlanArgs {
    /// The options as a plan records them.
    pub(crate) fn options(&self) -> PlanOptions {
        PlanOptions {
            budget: self.budget,
            score: self.score,
            merge: self.merge,
            similarity: self.similarity,
            alpha: self.cold,
            max_merged: self.max_merged,
            alignment: self.alignment,
            router: self.router,
        }
    }
}

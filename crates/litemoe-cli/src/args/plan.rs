use anyhow::bail;
use clap::Args;
use litemoe_core::{
    Alignment, Budget, Criterion, LitemoeOptions, MergeMethod, PlanMethod, PlanOptions, RouterRule,
    SimilarityKind,
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
    #[arg(long, default_value_t = MergeMethod::None)]
    pub(crate) merge: MergeMethod,
    /// What makes two experts alike, when merging: affinity or expert_output_gated [default: affinity].
    #[arg(long, value_name = "KIND")]
    pub(crate) similarity: Option<SimilarityKind>,
    /// Experts below this share of the uniform score are removed, not merged [default: 0.6].
    #[arg(long, value_name = "SHARE")]
    pub(crate) cold: Option<f64>,
    /// At most this many experts are merged into one [default: 3].
    #[arg(long, value_name = "N")]
    pub(crate) max_merged: Option<usize>,
    /// How a merged expert's neurons are matched to its host's: hungarian or none [default: hungarian].
    #[arg(long, value_name = "HOW")]
    pub(crate) alignment: Option<Alignment>,
    /// What the proxy's router does with the experts taken out: drop_rows, mask, redirect
    /// or redirect_selected.
    #[arg(long, default_value_t = PlanOptions::default().router)]
    pub(crate) router: RouterRule,
}

impl PlanArgs {
    /// The options as a plan records them.
    ///
    /// # Errors
    /// Options of merging without a merge method.
    pub(crate) fn options(&self) -> anyhow::Result<PlanOptions> {
        let Self { budget, score, router, .. } = *self;
        let method = match self.merge {
            MergeMethod::Litemoe => PlanMethod::Litemoe(self.merging()),
            MergeMethod::None => {
                let given = [
                    ("similarity", self.similarity.is_some()),
                    ("cold", self.cold.is_some()),
                    ("max-merged", self.max_merged.is_some()),
                    ("alignment", self.alignment.is_some()),
                ];
                if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
                    bail!("--{option} is for --merge litemoe alone");
                }
                PlanMethod::Prune
            }
        };
        Ok(PlanOptions { budget, score, method, router })
    }

    /// The options of merging.
    pub(crate) fn merging(&self) -> LitemoeOptions {
        let defaults = LitemoeOptions::default();
        LitemoeOptions {
            similarity: self.similarity.unwrap_or(defaults.similarity),
            alpha: self.cold.unwrap_or(defaults.alpha),
            max_merged: self.max_merged.unwrap_or(defaults.max_merged),
            alignment: self.alignment.unwrap_or(defaults.alignment),
        }
    }
}

use anyhow::bail;
use clap::Args;
use litemoe_core::{
    Alignment, Budget, Criterion, LitemoeOptions, MergeMethod, PlanMethod, PlanOptions, RouterRule,
    SimilarityKind,
};
use serde::{Deserialize, Serialize};

use crate::args::listed;

/// Plan options of `plan` and `customize`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct PlanArgs {
    /// Byte budget of the proxy's experts: a share of the foundation's expert bytes, in (0, 1], or an amount such as
    /// 4MiB (units B, kB, MB, GB, KiB, MiB, GiB).
    #[arg(long, default_value_t = PlanOptions::default().budget)]
    pub(crate) budget: Budget,
    /// Criterion that ranks the experts.
    #[arg(long, default_value_t = PlanOptions::default().score, value_parser = listed::criterion())]
    pub(crate) score: Criterion,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) how: PlanHow,
}

/// Plan options besides budget and criterion.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct PlanHow {
    /// Treatment of moderately important experts.
    #[arg(long, default_value_t = MergeMethod::None, value_parser = listed::merge_method())]
    pub(crate) merge: MergeMethod,
    /// Similarity of two experts, with --merge litemoe [default: affinity].
    #[arg(long, value_name = "KIND", value_parser = listed::similarity())]
    pub(crate) similarity: Option<SimilarityKind>,
    /// Pruning threshold, with --merge litemoe: experts that score below this share of the uniform score are pruned,
    /// not merged [default: 0.6].
    #[arg(long, value_name = "SHARE")]
    pub(crate) cold: Option<f64>,
    /// Maximum number of experts that one centroid absorbs, with --merge litemoe [default: 3].
    #[arg(long, value_name = "N")]
    pub(crate) max_merged: Option<usize>,
    /// Alignment of an absorbed expert's neurons to the centroid's before averaging, with --merge litemoe [default:
    /// hungarian].
    #[arg(long, value_name = "HOW", value_parser = listed::alignment())]
    pub(crate) alignment: Option<Alignment>,
    /// Treatment of pruned and absorbed experts by the proxy's router.
    #[arg(long, default_value_t = PlanOptions::default().router, value_parser = listed::router_rule())]
    pub(crate) router: RouterRule,
}

impl PlanArgs {
    /// Converts to the options that a plan records.
    ///
    /// # Errors
    ///
    /// Merge options without a merge method or out of range.
    pub(crate) fn options(&self) -> anyhow::Result<PlanOptions> {
        let Self { budget, score, how } = self;
        let method = match how.merge {
            MergeMethod::Litemoe => PlanMethod::Litemoe(how.merging()?),
            MergeMethod::None => {
                let given = [
                    ("similarity", how.similarity.is_some()),
                    ("cold", how.cold.is_some()),
                    ("max-merged", how.max_merged.is_some()),
                    ("alignment", how.alignment.is_some()),
                ];
                if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
                    bail!("--{option} is for --merge litemoe alone");
                }
                PlanMethod::Prune
            }
        };
        Ok(PlanOptions { budget: *budget, score: *score, method, router: how.router })
    }
}

impl PlanHow {
    /// Merge options, with defaults.
    pub(crate) fn merging(&self) -> anyhow::Result<LitemoeOptions> {
        let defaults = LitemoeOptions::default();
        let alpha = self.cold.unwrap_or(defaults.alpha);
        if !(alpha.is_finite() && alpha >= 0.0) {
            bail!("--cold is {alpha}, but must be a finite number of at least 0");
        }
        Ok(LitemoeOptions {
            similarity: self.similarity.unwrap_or(defaults.similarity),
            alpha,
            max_merged: self.max_merged.unwrap_or(defaults.max_merged),
            alignment: self.alignment.unwrap_or(defaults.alignment),
        })
    }

    /// Similarity that is measured with the scores: what merging needs.
    pub(crate) fn measured_similarity(&self) -> Option<SimilarityKind> {
        let merges = self.merge != MergeMethod::None;
        merges.then(|| self.similarity.unwrap_or(LitemoeOptions::default().similarity))
    }
}

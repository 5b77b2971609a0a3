use serde::{Deserialize, Serialize};

use crate::name::named_enum;
use crate::{Budget, Criterion, RouterRule, SimilarityKind};

named_enum! {
    /// Name of a plan's method on the command line and in files; [`PlanMethod`] has its options.
    MergeMethod, "merge method", {
        /// Pruning.
        None = "none": "prune the experts that are not kept",
        /// LiteMoE's merging.
        Litemoe = "litemoe": "merge moderate experts into the most similar kept one, prune cold ones (LiteMoE §3.3)",
    }
}

named_enum! {
    /// Alignment of an absorbed expert's neurons to the centroid's before averaging.
    Alignment, "alignment", {
        /// No alignment.
        None = "none": "average the neurons in the order in which they are stored",
        /// Minimum-cost permutation (Hungarian algorithm).
        Hungarian = "hungarian": "minimum-cost permutation of the neurons before averaging (LiteMoE §3.4)",
    }
}

/// Options of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct PlanOptions {
    /// Byte budget of the kept experts.
    pub budget: Budget,
    /// Criterion that ranks the experts.
    pub score: Criterion,
    /// Treatment of the experts that are not kept unchanged.
    pub method: PlanMethod,
    /// Treatment of the removed and absorbed experts by the proxy's router.
    pub router: RouterRule,
}

/// Compression method: the treatment of the experts that are not kept unchanged. Each has its own options.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanMethod {
    /// Expert pruning: they are removed.
    Prune,
    /// Expert merging: moderate experts are absorbed by kept ones, cold ones are removed.
    Litemoe(LitemoeOptions),
}

/// Options of LiteMoE's expert merging (LiteMoE, doi 10.1145/3666025.3699355, sections 3.3 and 3.4).
#[derive(Debug, Clone, PartialEq)]
pub struct LitemoeOptions {
    /// Similarity of two experts.
    pub similarity: SimilarityKind,
    /// Pruning threshold: experts that score below this share of the uniform score are removed, not merged.
    pub alpha: f64,
    /// Maximum number of experts absorbed by one centroid.
    pub max_merged: usize,
    /// Neuron alignment.
    pub alignment: Alignment,
}

impl Default for PlanOptions {
    /// Pruning to .33 of the expert bytes by `task` score.
    fn default() -> Self {
        Self {
            budget: Budget::Share(0.33),
            score: Criterion::Task,
            method: PlanMethod::Prune,
            router: RouterRule::DropRows,
        }
    }
}

impl LitemoeOptions {
    /// What files of plans that merge nothing hold; it must never change, since the plans' hashes cover it.
    const RECORDED: Self = Self {
        similarity: SimilarityKind::Affinity,
        alpha: 0.6,
        max_merged: 3,
        alignment: Alignment::Hungarian,
    };
}

impl Default for LitemoeOptions {
    /// `affinity`, threshold .6 of the uniform score, at most three absorbed experts per centroid, Hungarian alignment.
    fn default() -> Self {
        Self::RECORDED
    }
}

impl PlanMethod {
    /// The options of merging; `None` where nothing is merged.
    pub fn merging(&self) -> Option<&LitemoeOptions> {
        match self {
            Self::Prune => None,
            Self::Litemoe(options) => Some(options),
        }
    }
}

/// The options in `plan.json`, flat: those of merging are always present, with their defaults for pruning.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    budget: Budget,
    score: Criterion,
    merge: MergeMethod,
    similarity: SimilarityKind,
    alpha: f64,
    max_merged: usize,
    alignment: Alignment,
    router: RouterRule,
}

impl From<PlanOptions> for Record {
    fn from(PlanOptions { budget, score, method, router }: PlanOptions) -> Self {
        let (merge, options) = match method {
            PlanMethod::Prune => (MergeMethod::None, LitemoeOptions::RECORDED),
            PlanMethod::Litemoe(options) => (MergeMethod::Litemoe, options),
        };
        let LitemoeOptions { similarity, alpha, max_merged, alignment } = options;
        Self { budget, score, merge, similarity, alpha, max_merged, alignment, router }
    }
}

impl TryFrom<Record> for PlanOptions {
    type Error = String;

    fn try_from(record: Record) -> Result<Self, String> {
        let Record { budget, score, merge, similarity, alpha, max_merged, alignment, router } =
            record;
        let options = LitemoeOptions { similarity, alpha, max_merged, alignment };
        let method = match merge {
            MergeMethod::Litemoe => PlanMethod::Litemoe(options),
            MergeMethod::None if options == LitemoeOptions::RECORDED => PlanMethod::Prune,
            // The plan's hash covers them, and nothing would use them.
            MergeMethod::None => {
                return Err("it has options of merging, but merges nothing: plan again".to_owned());
            }
        };
        Ok(Self { budget, score, method, router })
    }
}

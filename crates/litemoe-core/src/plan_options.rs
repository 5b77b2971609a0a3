use serde::{Deserialize, Serialize};

use crate::name::named_enum;
use crate::{Budget, Criterion, RouterRule, SimilarityKind};

named_enum! {
    /// The method that a plan is made by, as it is named on the command line and in files: see [`PlanMethod`].
    MergeMethod, "merge method", {
        /// Pruning.
        None = "none",
        /// LiteMoE's merging.
        Litemoe = "litemoe",
    }
}

named_enum! {
    /// How the neurons of an absorbed expert are matched to its centroid's.
    Alignment, "alignment", {
        /// Not at all.
        None = "none",
        /// The permutation of least cost.
        Hungarian = "hungarian",
    }
}

/// Every choice that goes into a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct PlanOptions {
    /// Bytes of experts that may be kept.
    pub budget: Budget,
    /// The score that ranks the experts.
    pub score: Criterion,
    /// What becomes of the experts that are not kept as they are.
    pub method: PlanMethod,
    /// What the router does with the experts taken out.
    pub router: RouterRule,
}

/// What becomes of the experts that are not kept as they are. Each method has its own options.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanMethod {
    /// They are removed: pruning.
    Prune,
    /// Moderate ones are merged into kept ones, cold ones are removed.
    Litemoe(LitemoeOptions),
}

/// LiteMoE's merging of moderate experts (doi 10.1145/3666025.3699355, sections 3.3 and 3.4).
#[derive(Debug, Clone, PartialEq)]
pub struct LitemoeOptions {
    /// What makes two experts alike.
    pub similarity: SimilarityKind,
    /// Experts below this share of the uniform score are cold: removed, not merged.
    pub alpha: f64,
    /// At most this many experts are merged into one.
    pub max_merged: usize,
    /// How neurons are matched.
    pub alignment: Alignment,
}

impl Default for PlanOptions {
    /// A third of the expert bytes, the experts of highest `task` score kept as they are, the others pruned.
    fn default() -> Self {
        Self {
            budget: Budget::Share(0.33),
            score: Criterion::Task,
            method: PlanMethod::Prune,
            router: RouterRule::DropRows,
        }
    }
}

impl Default for LitemoeOptions {
    /// `affinity`, experts below .6 of the uniform share removed, three merged into one at most, neurons matched.
    fn default() -> Self {
        Self {
            similarity: SimilarityKind::Affinity,
            alpha: 0.6,
            max_merged: 3,
            alignment: Alignment::Hungarian,
        }
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

/// The options in `plan.json`: those of merging are there in any case, with their defaults where nothing is merged.
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
            PlanMethod::Prune => (MergeMethod::None, LitemoeOptions::default()),
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
            MergeMethod::None if options == LitemoeOptions::default() => PlanMethod::Prune,
            // The plan's hash covers them, and nothing would use them.
            MergeMethod::None => {
                return Err("it has options of merging, but merges nothing: plan again".to_owned());
            }
        };
        Ok(Self { budget, score, method, router })
    }
}

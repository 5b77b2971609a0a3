use litemoe_core::{
    Alignment, Budget, Criterion, MergeMethod, PlanOptions, RouterRule, SimilarityKind,
};

/// The choices a user who chooses nothing gets: a third of the expert bytes, the experts of highest `task` score
/// kept as they are, the others pruned.
///
/// When merging is chosen: `affinity`, experts below .6 of the uniform share removed, three merged into one host at
/// most, neurons matched.
pub fn default_options() -> PlanOptions {
    PlanOptions {
        budget: Budget::Share(0.33),
        score: Criterion::Task,
        merge: MergeMethod::None,
        similarity: SimilarityKind::Affinity,
        alpha: 0.6,
        max_merged: 3,
        alignment: Alignment::Hungarian,
        router: RouterRule::DropRows,
    }
}

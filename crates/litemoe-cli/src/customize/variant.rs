use std::path::{Path, PathBuf};

use litemoe_core::{Budget, Criterion, MoeLayer};

use super::args::CustomizeArgs;
use super::refit;
use crate::args::plan::PlanArgs;
use crate::args::refit_kind::RefitKind;

/// A proxy and what is made of it: how, and where.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) plan: PlanArgs,
    pub(super) refit: RefitKind,
    pub(super) dir: PathBuf,
    /// Directory of the stages' records.
    pub(super) records: PathBuf,
    /// Prefix of the stages' names.
    prefix: &'static str,
    /// Whether the tuned proxy is evaluated.
    pub(super) evaluates_tuned: bool,
}

/// The proxies of an app.
pub(super) struct Variants {
    /// One, or one for each pair of budget and score in a sweep.
    pub(super) asked: Vec<Variant>,
    /// The control with random scores; in a sweep it is among the others.
    pub(super) random: Option<Variant>,
}

impl Variants {
    /// The proxies that the options ask for, below the app's directory.
    ///
    /// # Errors
    /// A budget that is too small, a refit that is not possible.
    pub(super) fn of(
        options: &CustomizeArgs,
        layers: &[MoeLayer],
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let make = |budget: Budget, score: Criterion| -> anyhow::Result<Variant> {
            Ok(Variant {
                plan: options.plan(budget, score),
                refit: refit::kind(options, budget, layers)?,
                dir: dir.to_owned(),
                records: dir.join("stages"),
                prefix: "",
                evaluates_tuned: true,
            })
        };
        if !options.is_sweep() {
            let only = make(options.budget[0], options.score[0])?;
            let random = (!options.no_controls).then(|| Variant {
                plan: options.plan(options.budget[0], Criterion::Random),
                dir: dir.join("random"),
                prefix: "random_",
                evaluates_tuned: false,
                ..only.clone()
            });
            return Ok(Self { asked: vec![only], random });
        }
        let mut scores = options.score.clone();
        if !options.no_controls && !scores.contains(&Criterion::Random) {
            scores.push(Criterion::Random);
        }
        let pairs =
            options.budget.iter().flat_map(|budget| scores.iter().map(move |it| (budget, it)));
        let of_pair = |(&budget, &score): (&Budget, &Criterion)| -> anyhow::Result<Variant> {
            let dir = dir.join(format!("{budget}-{score}"));
            Ok(Variant { records: dir.join("stages"), dir, ..make(budget, score)? })
        };
        Ok(Self { asked: pairs.map(of_pair).collect::<anyhow::Result<_>>()?, random: None })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Variant> {
        self.asked.iter().chain(&self.random)
    }
}

impl Variant {
    /// Name of one of its stages.
    pub(super) fn stage(&self, stage: &str) -> String {
        format!("{}{stage}", self.prefix)
    }

    pub(super) fn plan_file(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    pub(super) fn proxy(&self) -> PathBuf {
        self.dir.join("proxy")
    }

    pub(super) fn adapter(&self) -> PathBuf {
        self.dir.join("adapter")
    }

    pub(super) fn mounted(&self) -> PathBuf {
        self.dir.join("mounted")
    }
}

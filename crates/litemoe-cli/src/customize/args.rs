use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use litemoe_core::{Budget, Criterion, PlanOptions};

use crate::args::auto::Auto;
use crate::args::device::DeviceArgs;
use crate::args::listed;
use crate::args::mount::MountOptions;
use crate::args::plan::{PlanArgs, PlanHow};
use crate::args::refit::REFIT_RANK;
use crate::args::refit_kind::RefitKind;
use crate::args::tune::TuneArgs;
use crate::args::weights::WeightArgs;

/// Run the whole loop: score, plan, extract, tune, mount and evaluate, with controls
///
/// --dtype is the format of the frozen weights while adapters are tuned, mounted and evaluated; scores and refit use f32.
#[derive(Debug, Args)]
pub(crate) struct CustomizeArgs {
    /// The foundation: a Hugging Face model directory, or the id of a pulled model [default: the embedded foundation].
    #[arg(long, value_name = "MODEL")]
    pub(super) foundation: Option<PathBuf>,
    /// Rows of an app: a directory with files train, validation (or valid, val, dev) and test, each .jsonl, .json or
    /// .csv, or a single file, of which --seed draws a tenth of the rows each for validation and test. May be repeated
    /// [default: the embedded app home].
    #[arg(long = "app", value_name = "[NAME=]PATH")]
    pub(super) apps: Vec<String>,
    /// Output directory, with one subdirectory per app.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out")]
    pub(super) out: PathBuf,
    /// Byte budgets of the proxy's experts, comma-separated: each a share of the foundation's expert bytes, in (0, 1],
    /// or an amount such as 4MiB (units B, kB, MB, GB, KiB, MiB, GiB). With several budgets or scores, one proxy is
    /// made for each pair (a sweep), on the same scores and full tuning.
    #[arg(long, value_name = "BUDGET", value_delimiter = ',', default_values_t = [PlanOptions::default().budget])]
    pub(super) budget: Vec<Budget>,
    /// Criteria that rank the experts, comma-separated.
    #[arg(long, value_name = "SCORE", value_delimiter = ',', default_values_t = [PlanOptions::default().score],
          value_parser = listed::criterion())]
    pub(super) score: Vec<Criterion>,
    #[command(flatten)]
    pub(super) how: PlanHow,
    /// Refit of the proxy's down projections on the calibration rows by ridge regression, before tuning.
    #[arg(long, value_name = "KIND", default_value_t = Auto::Auto, value_parser = listed::refit())]
    pub(super) refit: Auto<RefitKind>,
    /// Rank of --refit low-rank, at least 1.
    #[arg(long, value_name = "R", default_value_t = REFIT_RANK)]
    pub(super) refit_rank: usize,
    #[command(flatten)]
    pub(super) tune: TuneArgs,
    /// Number of calibration rows: training rows used for scores and refit.
    #[arg(long, default_value_t = 256)]
    pub(super) calibration_rows: usize,
    #[command(flatten)]
    pub(super) mount: MountOptions,
    /// Number of test rows to evaluate, at least 1, drawn by --seed.
    #[arg(long, default_value = "300")]
    pub(super) limit: NonZeroUsize,
    /// Seed of all random choices.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Skip the controls: the random proxy, and tuning on the whole foundation, which needs the most memory.
    #[arg(long)]
    pub(super) no_controls: bool,
    /// Run every stage again, even if nothing has changed.
    #[arg(long)]
    pub(super) force: bool,
    /// Check everything and print what would be done, with estimates of memory and time; write nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    #[command(flatten)]
    pub(super) weights: WeightArgs,
}

impl CustomizeArgs {
    /// Plan options of a proxy.
    pub(super) fn plan(&self, budget: Budget, score: Criterion) -> PlanArgs {
        PlanArgs { budget, score, how: self.how.clone() }
    }

    /// Whether several proxies are asked for.
    pub(super) fn is_sweep(&self) -> bool {
        self.budget.len() > 1 || self.score.len() > 1
    }

    /// Checks the ranges that do not depend on model or rows.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.tune.check()?;
        self.plan(self.budget[0], self.score[0]).options()?;
        let rank = self.refit_rank;
        for (option, count) in [("refit-rank", rank), ("calibration-rows", self.calibration_rows)] {
            if count == 0 {
                bail!("--{option} is 0, but at least 1 is needed");
            }
        }
        twice(&self.budget).map_or(Ok(()), |budget| bail!("--budget {budget} is given twice"))?;
        twice(&self.score).map_or(Ok(()), |score| bail!("--score {score} is given twice"))
    }
}

/// The first value that equals an earlier one.
fn twice<T: PartialEq>(values: &[T]) -> Option<&T> {
    let mut later = values.iter().enumerate();
    later.find(|(index, value)| values[..*index].contains(value)).map(|(_, value)| value)
}

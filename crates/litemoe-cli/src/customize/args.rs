use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::args::auto::Auto;
use crate::args::device::DeviceArgs;
use crate::args::listed;
use crate::args::mount::MountOptions;
use crate::args::plan::PlanArgs;
use crate::args::refit::REFIT_RANK;
use crate::args::refit_kind::RefitKind;
use crate::args::tune::TuneArgs;

/// Run the whole loop: score, plan, extract, tune, mount and evaluate, with controls
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
    #[command(flatten)]
    pub(super) plan: PlanArgs,
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
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

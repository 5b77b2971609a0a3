use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::args::auto::Auto;
use crate::args::device::DeviceArgs;
use crate::args::mount::MountOptions;
use crate::args::plan::PlanArgs;
use crate::args::refit::{REFIT_RANK, RefitKind};
use crate::args::tune::TuneArgs;

/// Run the whole loop: score, plan, extract, tune, mount and evaluate, with the controls
#[derive(Debug, Args)]
pub(crate) struct CustomizeArgs {
    /// The foundation: a Hugging Face directory, or the id of a model that was pulled [default: the embedded one].
    #[arg(long, value_name = "MODEL")]
    pub(super) foundation: Option<PathBuf>,
    /// An app's data, a folder with train.jsonl, validation.jsonl and test.jsonl; may be repeated [default: the
    /// embedded home assistant].
    #[arg(long = "app", value_name = "[NAME=]DIR")]
    pub(super) apps: Vec<String>,
    /// The folder for everything that is made.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) plan: PlanArgs,
    /// Solve the proxy's down projections anew on the calibration rows before tuning: low-rank (carried by the adapter), full
    /// (stays in the proxy), none, or auto (low-rank where adapters are beside all experts' down projections
    /// and the sums fit 2 GiB).
    #[arg(long, value_name = "KIND", default_value_t = Auto::Auto)]
    pub(super) refit: Auto<RefitKind>,
    /// Rank of --refit low-rank.
    #[arg(long, value_name = "R", default_value_t = REFIT_RANK)]
    pub(super) refit_rank: usize,
    #[command(flatten)]
    pub(super) tune: TuneArgs,
    /// Training rows to score the experts on.
    #[arg(long, default_value_t = 256)]
    pub(super) calibration_rows: usize,
    #[command(flatten)]
    pub(super) mount: MountOptions,
    /// Test rows to evaluate, drawn by the seed.
    #[arg(long, default_value = "300")]
    pub(super) limit: NonZeroUsize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Leave out what only judges the loop: the random control, and tuning on the whole foundation, which needs memory
    /// for all of it.
    #[arg(long)]
    pub(super) no_controls: bool,
    /// Redo every stage, even if nothing has changed.
    #[arg(long)]
    pub(super) force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

//! `litemoe customize`: the whole loop, stage by stage, for one or several apps.

mod app;
mod looped;
pub(crate) mod options;
mod report;
mod stage;
mod table;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use self::app::App;
use self::looped::Loop;
use self::options::{PlanArgs, TuneArgs};
use self::report::Report;
use crate::auto::Auto;
use crate::commands::extract::{REFIT_RANK, RefitKind};
use crate::commands::mount::MountOptions;
use crate::device::DeviceArgs;
use crate::{artefact, hub, output};

/// Run the whole loop: score, plan, extract, tune, mount and evaluate, with the controls
#[derive(Debug, Args)]
pub(crate) struct CustomizeArgs {
    /// The foundation: a Hugging Face directory, or the id of a model that was pulled [default: the embedded one].
    #[arg(long, value_name = "MODEL")]
    foundation: Option<PathBuf>,
    /// An app's data, a folder with train.jsonl, validation.jsonl and test.jsonl; may be repeated [default: the
    /// embedded home assistant].
    #[arg(long = "app", value_name = "[NAME=]DIR")]
    apps: Vec<String>,
    /// The folder for everything that is made.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out")]
    out: PathBuf,
    #[command(flatten)]
    plan: PlanArgs,
    /// Solve the proxy's down projections anew on the calibration rows before tuning: low-rank (carried by the adapter), full
    /// (stays in the proxy), none, or auto (low-rank where adapters are beside all experts' down projections
    /// and the sums fit 2 GiB).
    #[arg(long, value_name = "KIND", default_value_t = Auto::Auto)]
    refit: Auto<RefitKind>,
    /// Rank of --refit low-rank.
    #[arg(long, value_name = "R", default_value_t = REFIT_RANK)]
    refit_rank: usize,
    #[command(flatten)]
    tune: TuneArgs,
    /// Training rows to score the experts on.
    #[arg(long, default_value_t = 256)]
    calibration_rows: usize,
    #[command(flatten)]
    mount: MountOptions,
    /// Test rows to evaluate, drawn by the seed.
    #[arg(long, default_value = "300")]
    limit: NonZeroUsize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave out what only judges the loop: the random control, and tuning on the whole foundation, which needs memory
    /// for all of it.
    #[arg(long)]
    no_controls: bool,
    /// Redo every stage, even if nothing has changed.
    #[arg(long)]
    force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl CustomizeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.open()?;
        self.tune.check()?;
        let foundation = match &self.foundation {
            Some(named) => hub::locate(named)?,
            None => app::embedded_foundation(&self.out)?,
        };
        let apps = self.parse_apps()?;
        let mut report = Report { apps: Vec::new() };
        for app in &apps {
            let looped = Loop::new(&self, &foundation, app)?;
            report.apps.push(looped.run().with_context(|| format!("app {}", app.name))?);
        }
        artefact::write(&self.out.join("report.json"), &report)?;
        if self.json {
            output::json(&report)
        } else {
            table::print(&report, &self.out, &foundation)
        }
    }

    fn parse_apps(&self) -> anyhow::Result<Vec<App>> {
        if self.apps.is_empty() {
            return Ok(vec![app::embedded_app(&self.out)?]);
        }
        let apps = self.apps.iter().map(|text| App::parse(text));
        let apps = apps.collect::<anyhow::Result<Vec<_>>>()?;
        for (index, app) in apps.iter().enumerate() {
            if apps[..index].iter().any(|other| other.name == app.name) {
                bail!("two apps are named {}: give each a name with --app NAME=DIR", app.name);
            }
        }
        Ok(apps)
    }
}

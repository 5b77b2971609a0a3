//! A stage's work as a file: `customize` writes it, and runs it in a process of its own.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::artefact;
use crate::commands::eval::EvalArgs;
use crate::commands::extract::ExtractArgs;
use crate::commands::mount::MountArgs;
use crate::commands::plan::PlanCommand;
use crate::commands::score::ScoreWork;
use crate::commands::tune::TuneCommand;
use crate::work::Work;

/// The work of a stage.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Job {
    Eval(EvalArgs),
    Score(ScoreWork),
    Plan(PlanCommand),
    Extract(ExtractArgs),
    Tune(TuneCommand),
    Mount(MountArgs),
}

/// Work that a stage can do.
pub(crate) trait StageWork: Work + Into<Job> {}

impl<W: Work + Into<Job>> StageWork for W {}

macro_rules! jobs {
    ($($work:ident => $kind:ident),*) => {
        $(impl From<$work> for Job {
            fn from(work: $work) -> Self {
                Self::$kind(work)
            }
        })*
    };
}

jobs!(
    EvalArgs => Eval, ScoreWork => Score, PlanCommand => Plan, ExtractArgs => Extract,
    TuneCommand => Tune, MountArgs => Mount
);

/// Run a stage of `customize` from its files
#[derive(Debug, Args)]
pub(crate) struct StageArgs {
    /// The stage's work.
    job: PathBuf,
    /// Where its report is written.
    report: PathBuf,
    /// Go on from the checkpoint that an interrupted run left.
    #[arg(long)]
    resume: bool,
}

impl StageArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match artefact::read(&self.job)? {
            Job::Eval(work) => self.report(work),
            Job::Score(work) => self.report(work),
            Job::Plan(work) => self.report(work),
            Job::Extract(work) => self.report(work),
            Job::Tune(work) => self.report(work),
            Job::Mount(work) => self.report(work),
        }
    }

    fn report<W: Work>(&self, work: W) -> anyhow::Result<()> {
        let work = if self.resume { work.resumed() } else { work };
        artefact::write(Path::new(&self.report), &work.execute()?)
    }
}

//! Stage jobs: the work of a stage as a JSON file, which `customize` writes and a child process runs.

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
use crate::events::Source;
use crate::model;
use crate::parent::end_with_parent;
use crate::work::Work;

/// Work of a stage.
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

/// Work that can run as a stage.
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

/// Run one stage of `customize` from its job file
#[derive(Debug, Args)]
pub(crate) struct StageArgs {
    /// Job file of the stage.
    job: PathBuf,
    /// Output file of the report.
    report: PathBuf,
    /// Process that waits for the stage.
    #[arg(long)]
    parent: u32,
    /// Resume from the checkpoint of an interrupted run.
    #[arg(long)]
    resume: bool,
    /// App of the stage.
    #[arg(long)]
    app: String,
    /// Name of the stage.
    #[arg(long)]
    stage: String,
}

impl StageArgs {
    /// Where the stage's events come from.
    pub(crate) fn source(&self) -> Source {
        Source { app: Some(self.app.clone()), stage: self.stage.clone() }
    }

    pub(crate) fn run(self) -> anyhow::Result<()> {
        end_with_parent(self.parent)?;
        model::note_no_leftovers(); // every stage opens the same models
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
        artefact::write_checksummed(Path::new(&self.report), &work.execute()?)
    }
}

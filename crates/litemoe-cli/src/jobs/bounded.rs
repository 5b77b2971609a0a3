use clap::{Args, Subcommand};

use crate::commands::extract::ExtractArgs;
use crate::commands::mount::MountArgs;
use crate::commands::plan::PlanCommand;
use crate::customize::CustomizeArgs;
use crate::parent::end_with_parent;

/// Change of the priority of a job and its stages: they get what the CPUs have left.
#[cfg(unix)]
const NICENESS: i32 = 10;

/// How much sooner the kernel ends a job than the service when there is no memory left, of 1000.
#[cfg(target_os = "linux")]
const OOM_SCORE: &str = "500";

/// Run a command as a job of `serve`: at low priority, and only as long as its parent
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Process that waits for the job.
    #[arg(long)]
    parent: u32,
    #[command(subcommand)]
    work: JobWork,
}

#[derive(Debug, Subcommand)]
enum JobWork {
    Customize(Box<CustomizeArgs>),
    Plan(PlanCommand),
    Extract(ExtractArgs),
    Mount(MountArgs),
}

impl JobArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        end_with_parent(self.parent)?;
        // What the job and its stages write is for this user alone.
        #[cfg(unix)]
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        // A system that does not allow these runs the job as any other program.
        #[cfg(unix)]
        let _ = rustix::process::nice(NICENESS);
        #[cfg(target_os = "linux")]
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        match self.work {
            JobWork::Customize(args) => args.run(),
            JobWork::Plan(args) => args.run(),
            JobWork::Extract(args) => args.run(),
            JobWork::Mount(args) => args.run(),
        }
    }
}

use anyhow::Context;
use clap::Args;

use crate::customize::CustomizeArgs;
use crate::parent::end_with_parent;

/// Change of the priority of a job and its stages: they get what the CPUs have left.
#[cfg(unix)]
const NICENESS: i32 = 10;

/// Run `customize` as a job of `serve`: at low priority, with bounded memory, and only as long as its parent
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Process that waits for the job.
    #[arg(long)]
    parent: u32,
    /// Maximum private memory of each process of the job.
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    #[command(flatten)]
    customize: CustomizeArgs,
}

impl JobArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        end_with_parent(self.parent)?;
        #[cfg(unix)]
        rustix::process::nice(NICENESS).context("cannot lower the priority")?;
        if let Some(bytes) = self.memory {
            limit_memory(bytes)?;
        }
        self.customize.run()
    }
}

/// Limits the private writable memory of this process, and of each that it starts. Memory-mapped checkpoints do not count.
/// Linux alone.
fn limit_memory(bytes: u64) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rlimit::setrlimit(rlimit::Resource::DATA, bytes, bytes).context("cannot limit the memory")?;
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
    Ok(())
}

use clap::Args;

/// Fine-tuning jobs of `serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobOptions {
    /// Maximum memory of a fine-tuning job: one that would need more, by its forecast, is tuned with less memory and more
    /// time, or refused [default: what is available when it begins].
    #[arg(long, value_name = "BYTES")]
    pub(crate) job_memory: Option<u64>,
    /// Run no fine-tuning jobs: they wait in the registry for another process that serves it.
    #[arg(long)]
    pub(crate) no_jobs: bool,
}

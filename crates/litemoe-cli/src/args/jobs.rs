use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Maximum of `--job-time`: a year.
const MAX_TIME: Duration = Duration::from_secs(31_536_000);

/// Fine-tuning jobs of `serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobOptions {
    /// Maximum memory of a fine-tuning job: one that would need more, by its forecast, is tuned with less memory and more
    /// time, or refused [default: what is available when it begins].
    #[arg(long, value_name = "BYTES")]
    pub(crate) job_memory: Option<u64>,
    /// Maximum time of a fine-tuning job, after which it fails and the next one begins; counted from 0 when it goes on after
    /// `serve` was stopped.
    #[arg(long, value_name = "SECONDS", default_value = "21600", value_parser = seconds)]
    pub(crate) job_time: Duration,
    /// Make proxies for apps that may use the foundation, from the scores that they send, and mount the adapters that they
    /// tune on them. A proxy has weights of the foundation; with a budget of 1 it has all of them.
    #[arg(long)]
    pub(crate) proxies: bool,
    /// Maximum time to make a proxy or to mount an adapter; others wait for it.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub(crate) proxy_time: Duration,
    /// File of rows by which an adapter that an app tuned on a proxy is mounted, if the app sends no validation rows with
    /// it [default: such an adapter is mounted with restricted routing, and only checked for fit and effect].
    #[arg(long, value_name = "ROWS", requires = "proxies")]
    pub(crate) validation: Option<PathBuf>,
    /// Run no fine-tuning jobs: they wait in the registry for another process that serves it.
    #[arg(long)]
    pub(crate) no_jobs: bool,
}

/// Parses a time in seconds, above 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.filter(|time| !time.is_zero() && *time <= MAX_TIME);
    time.ok_or_else(|| {
        format!("a time is a number of seconds above 0, at most {}", MAX_TIME.as_secs())
    })
}

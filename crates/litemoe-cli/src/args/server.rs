use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_server::{RequestLimits, Secret, ServerOptions, Timeouts};

use crate::output;

/// Files that are open apart from the connections.
const OTHER_FILES: usize = 256;

/// Minimum length of a token, so that it cannot be guessed.
const MIN_TOKEN: usize = 16;

/// Limits and access rules of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Request queue: maximum number of waiting requests; further ones get 503.
    #[arg(long, value_name = "N", default_value = "64")]
    max_queue: NonZeroUsize,
    /// Maximum number of texts that decode in one batched step; further ones take turns.
    #[arg(long, value_name = "N", default_value = "32")]
    max_batch: NonZeroUsize,
    /// Maximum memory of all KV caches, those of finished texts for prompts with the same beginning included.
    #[arg(long, value_name = "BYTES", default_value = "268435456")]
    max_cache: u64,
    /// Compute every prompt from its beginning. Otherwise clients of one address and model, such as those behind a proxy,
    /// can learn from the time of an answer whether its prompt begins as an earlier one.
    #[arg(long)]
    no_prefix_cache: bool,
    /// Maximum time of a request, from its arrival to the end of its answer [default: none].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    deadline: Option<Duration>,
    /// Serve /metrics for Prometheus: totals of requests, tokens, times and memory. Once there are apps, only with
    /// --metrics-token-file, because from totals an app could learn how much others use.
    #[arg(long)]
    metrics: bool,
    /// File with the bearer token that /metrics asks for.
    #[arg(long, value_name = "FILE", requires = "metrics")]
    metrics_token_file: Option<PathBuf>,
    /// Maximum number of the registry's adapters in memory; the least recently used one makes room.
    #[arg(long, value_name = "N", default_value = "64")]
    max_adapters: NonZeroUsize,
    /// Maximum bytes of the files of these adapters; in memory, where numbers are f32, those of f16 and bf16 take twice as much.
    #[arg(long, value_name = "BYTES", default_value = "1073741824")]
    max_adapter_bytes: u64,
    /// Maximum tokens of a prompt and its answer together [default: the model's].
    #[arg(long, value_name = "TOKENS")]
    max_context: Option<NonZeroUsize>,
    /// Maximum number of texts per request, `n`.
    #[arg(long, value_name = "N", default_value = "128")]
    max_n: NonZeroUsize,
    /// Maximum size of a request's body; a larger one gets 413.
    #[arg(long, value_name = "BYTES", default_value = "2097152")]
    max_body: NonZeroUsize,
    /// Maximum size of all request bodies in memory; a request that exceeds it gets 503.
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    max_bodies: NonZeroUsize,
    /// Maximum size of all files of one upload.
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    max_upload: u64,
    /// Maximum number of open connections; further ones wait.
    #[arg(long, value_name = "N", default_value = "4096")]
    max_connections: NonZeroUsize,
    /// Time-out for a request's header (so also of an idle connection), for its body, and for a client that reads nothing
    /// of its answer.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Time for the running requests to end after the first signal to stop.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    stop_timeout: Duration,
    /// Host name or address, with or without a port, that clients may use in addition to the loopback ones; may be
    /// repeated; * is any [default: any if the server does not listen on a loopback address].
    #[arg(long = "allow-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
    /// Origin of web pages that may use the server, such as `https://app.example`; may be repeated; * is any.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
}

impl ServerArgs {
    /// The server's options. Raises the process's limit of open files to the number of connections.
    pub(crate) fn options(&self) -> anyhow::Result<ServerOptions> {
        let limits = RequestLimits {
            max_body: self.max_body.get(),
            max_n: self.max_n.get(),
            max_context: self.max_context.map(NonZeroUsize::get),
            ..RequestLimits::default()
        };
        let time = self.timeout;
        Ok(ServerOptions {
            max_queued: self.max_queue,
            max_batch: self.max_batch,
            max_cache: self.max_cache,
            prefix_cache: !self.no_prefix_cache,
            deadline: self.deadline,
            metrics: self.metrics,
            metrics_token: self.metrics_token()?,
            max_adapters: self.max_adapters,
            max_adapter_bytes: self.max_adapter_bytes,
            max_in_flight: self.max_bodies.get(),
            max_upload: self.max_upload,
            max_connections: self.connections()?,
            limits,
            timeouts: Timeouts {
                header: time,
                body: time,
                write: time,
                shutdown: self.stop_timeout,
                ..Timeouts::default()
            },
            allowed_hosts: self.allowed_hosts.clone(),
            allowed_origins: self.allowed_origins.clone(),
            ..ServerOptions::default()
        })
    }

    fn metrics_token(&self) -> anyhow::Result<Option<Secret>> {
        let Some(file) = &self.metrics_token_file else { return Ok(None) };
        let name = file.display();
        let token = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        match token.trim() {
            token if token.len() >= MIN_TOKEN => Ok(Some(Secret::new(token))),
            _ => bail!("{name}: a token has at least {MIN_TOKEN} characters"),
        }
    }

    fn connections(&self) -> anyhow::Result<NonZeroUsize> {
        let wanted = self.max_connections.saturating_add(OTHER_FILES);
        let files = rlimit::increase_nofile_limit(wanted.get() as u64)
            .context("cannot raise the limit of open files")?;
        let possible = usize::try_from(files)?.saturating_sub(OTHER_FILES);
        let possible = NonZeroUsize::new(possible)
            .with_context(|| format!("the process may open {files} files, which is too few"))?;
        if possible < self.max_connections {
            output::note(&format!(
                "serving at most {possible} connections: the process may open {files} files"
            ));
        }
        Ok(possible.min(self.max_connections))
    }
}

/// Parses a time in seconds, above 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400));
    time.ok_or_else(|| "a time is a number of seconds above 0, at most 86400".to_owned())
}

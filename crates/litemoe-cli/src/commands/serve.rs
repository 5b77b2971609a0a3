use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{panic, process};

use anyhow::{Context, bail};
use clap::Args;
use litemoe_model::{Checkpoint, Model};
use litemoe_registry::Registry;
use litemoe_server::{FittingAdapter, FoundationId, Listening, Server, ServerError, ServerOptions};
use litemoe_text::LossTurns;
use tokio::net::TcpListener;

use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::jobs::JobOptions;
use crate::args::registry::RegistryArgs;
use crate::args::rows::{MAX_TOKENS, RowArgs};
use crate::args::server::ServerArgs;
use crate::args::weights::WeightArgs;
use crate::input::Rows;
use crate::jobs::{Jobs, ProxyJobs, Setup};
use crate::log::LogFormat;
use crate::model::{self, Loaded, Opened};
use crate::output;
use crate::signals::Signals;

/// Serve a foundation and its adapters over HTTP, with an OpenAI-compatible API
///
/// While the model is loaded, /health answers 503 `{"status": "loading"}` and all other paths 503. The line `listening on
/// http://ADDRESS` is printed when the server is ready.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Adapter directory, with the model name it is served under; may be repeated.
    #[arg(long = "adapter", value_name = "NAME=DIR")]
    adapters: Vec<String>,
    /// Model name of the foundation [default: its id on the Hub, or its directory's name].
    #[arg(long)]
    name: Option<String>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Form of the log on standard error, which has a line for each request.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    jobs: JobOptions,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

impl ServeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let options = self.server.options()?;
        let registry = self.registry.open_if_any()?;
        if self.jobs.proxies && registry.is_none() {
            bail!(
                "--proxies is for apps, but there is no registry of them: `litemoe app add` makes one"
            );
        }
        let runtime =
            tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
        runtime.block_on(self.listen(options, registry))
    }

    /// Listens, loads the model off the asynchronous threads, and serves.
    async fn listen(
        self,
        options: ServerOptions,
        registry: Option<Registry>,
    ) -> anyhow::Result<()> {
        let mut signals = Signals::watch().context("cannot watch for signals")?;
        let address = (self.host.as_str(), self.port);
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {}:{}", self.host, self.port))?;
        let has_registry = registry.is_some();
        let asks_for_keys = match &registry {
            Some(registry) => registry.has_apps()?,
            None => false,
        };
        let address = listener.local_addr()?.ip();
        if !(asks_for_keys || address.to_canonical().is_loopback()) {
            return Err(ServerError::Open { address }.into());
        }
        let listening = Listening::new(listener, &options)?;
        let loaded = tokio::select! {
            biased;
            code = signals.next() => process::exit(code),
            loaded = tokio::task::spawn_blocking(|| self.load(options, registry)) => loaded,
        };
        let (server, jobs) =
            loaded.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))?;
        match has_registry {
            _ if asks_for_keys => {}
            true => output::note(
                "there are no apps, so no keys are asked for and only this machine is served, until `litemoe app add` adds one",
            ),
            false => output::note(
                "there is no registry of apps, so no keys are asked for and only this machine is served; `litemoe app add` \
                 makes one, which `serve` reads when it starts",
            ),
        }
        server.open(&listening)?;
        output::line(&format!("listening on http://{}", listening.address()))?;
        stop(signals).await;
        listening.stop().await;
        drop(jobs);
        Ok(())
    }

    /// The server, and the runner of its registry's jobs.
    fn load(
        self,
        options: ServerOptions,
        registry: Option<Registry>,
    ) -> anyhow::Result<(Server, Option<Jobs>)> {
        let named = |text: &'_ String| -> anyhow::Result<(String, PathBuf)> {
            let (name, dir) = text
                .split_once('=')
                .with_context(|| format!("--adapter {text}: give it a name, NAME=DIR"))?;
            Ok((name.to_owned(), dir.into()))
        };
        let dirs = self.adapters.iter().map(named).collect::<anyhow::Result<Vec<_>>>()?;
        let inputs = model::inputs(&self.model, dirs.iter().map(|(_, dir)| &**dir))?;
        let loaded = Loaded::open(&self.model, self.device, self.weights)?;
        let loaded = loaded.cached_as(self.cache, self.weights)?;
        let options = ServerOptions { sampling: loaded.sampling()?, ..options };
        let mut adapters = Vec::new();
        for (name, dir) in dirs {
            adapters.push((name, loaded.adapter(&dir)?));
        }
        inputs.expect_unchanged()?;
        let name = self.name.clone().unwrap_or_else(|| model::name(&loaded.checkpoint));
        let Loaded { checkpoint, model, tokenizer } = loaded;
        let model = Arc::new(model);
        let setup = self.setup(&name, &checkpoint)?;
        let mut server = Server::new(name, model.clone(), tokenizer, options)?;
        for (name, adapter) in adapters {
            server = server.with_adapter(name, adapter)?;
        }
        let mut jobs = None;
        if let Some(registry) = registry {
            let proxies = match self.jobs.proxies {
                true => {
                    Some(ProxyJobs::new(setup.clone(), self.jobs.proxy_time, self.validation()?))
                }
                false => None,
            };
            if !self.jobs.no_jobs {
                jobs = Some(Jobs::start(&registry, setup)?);
            }
            let source = checkpoint.quantised().map(|quantised| quantised.source.to_string());
            let fingerprint = checkpoint.fingerprint().to_string();
            let foundation = FoundationId { fingerprint, source };
            let load = move |dir: &Path| load_adapter(&checkpoint, &model, dir);
            server = server.with_registry(registry, foundation, load)?;
            if let Some(proxies) = proxies {
                server = server.with_proxies(proxies);
            }
        }
        Ok((server, jobs))
    }

    /// What the registry's jobs have in common.
    fn setup(&self, name: &str, checkpoint: &Checkpoint) -> anyhow::Result<Setup> {
        let (foundation, dtype) = (checkpoint.dir(), self.weights.of(checkpoint));
        let foundation = std::path::absolute(foundation)
            .with_context(|| format!("cannot find {}", foundation.display()))?;
        Ok(Setup {
            model: name.to_owned(),
            foundation,
            memory: self.jobs.job_memory,
            time: self.jobs.job_time,
            device: self.device,
            dtype,
        })
    }

    /// Absolute path of the validation rows, which can be read.
    fn validation(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(rows) = &self.jobs.validation else { return Ok(None) };
        // As `mount` reads them.
        let row_args = RowArgs { max_tokens: MAX_TOKENS, loss: LossTurns::default() };
        Rows::read(rows, &Opened::open(&self.model)?, row_args)?;
        let rows = std::path::absolute(rows);
        Ok(Some(rows.context("cannot find the current directory")?))
    }
}

/// Loads an adapter of the registry. The error names no files of this machine.
fn load_adapter(
    checkpoint: &Checkpoint,
    model: &Model,
    dir: &Path,
) -> Result<FittingAdapter, String> {
    let foundation = model::base_of(checkpoint, dir).to_string();
    let mounted = model::adapter(checkpoint, model, dir).map_err(|error| {
        // The outermost says no more than which directories these are.
        let mut reasons: Vec<String> = Vec::new();
        for reason in error.chain().skip(1).map(ToString::to_string) {
            // Some messages have their cause's already.
            if reasons.last().is_none_or(|last| !last.ends_with(&reason)) {
                reasons.push(reason);
            }
        }
        let (dir, model_dir) = (dir.display().to_string(), checkpoint.dir().display().to_string());
        let reason = reasons.join(": ").replace(&format!("{dir}/"), "");
        reason.replace(&dir, "the adapter").replace(&model_dir, "the foundation")
    })?;
    Ok(FittingAdapter { mounted, foundation })
}

/// Waits for a signal to stop; a second one ends the process at once.
async fn stop(mut signals: Signals) {
    signals.next().await;
    output::note(
        "stopping when the running requests are answered or --stop-timeout is over; a second signal stops at once",
    );
    tokio::spawn(async move {
        let code = signals.next().await;
        process::exit(code);
    });
}

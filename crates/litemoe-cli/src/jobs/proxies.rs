use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use litemoe_adapter::AdapterRecord;
use litemoe_server::{
    Cancelled, MountRequest, MountedProvenance, Proxies, ProxyError, ProxyRequest,
};
use serde_json::json;

use super::child::{self, Bounds, Ended, Interruption};
use super::command::{job, weights};
use super::hidden::Hidden;
use super::setup::Setup;
use crate::commands::mount::Mounted;
use crate::forecast::available_bytes;
use crate::output;

/// Name of the validation rows of the service, in messages.
const OWN_ROWS: &str = "the service's rows";

/// Proxies for the apps of a service: `plan`, `extract` and `mount` in processes of low priority.
#[derive(Debug)]
pub(crate) struct ProxyJobs {
    setup: Setup,
    /// Maximum time for a proxy, or to mount an adapter.
    time: Duration,
    /// Validation rows for apps that send none.
    validation: Option<PathBuf>,
}

impl ProxyJobs {
    pub(crate) fn new(setup: Setup, time: Duration, validation: Option<PathBuf>) -> Self {
        Self { setup, time, validation }
    }

    fn hidden(&self, paths: &[(&Path, &str)]) -> Hidden {
        let foundation = (self.setup.foundation.as_path(), self.setup.model.as_str());
        let own = self.validation.iter().map(|rows| (rows.as_path(), OWN_ROWS));
        Hidden::new(
            &[foundation].into_iter().chain(own).chain(paths.iter().copied()).collect::<Vec<_>>(),
        )
    }

    /// Runs a command to its end, and returns its result.
    fn run(
        &self,
        command: Command,
        hidden: &Hidden,
        begin: Instant,
        cancelled: &Cancelled,
    ) -> Result<String, ProxyError> {
        let interruption = || match cancelled.is_set() {
            true => Some(Interruption::Cancelled),
            false => (begin.elapsed() >= self.time).then_some(Interruption::Late),
        };
        let bounds = Bounds { memory: self.setup.memory.or_else(available_bytes), interruption };
        match child::run(command, &bounds, |_| ()).map_err(|error| failed(&error))? {
            Ended::Done(result) => Ok(result),
            Ended::NoRoom(message) => {
                tracing::error!(error = message, "a proxy cannot be written");
                Err(ProxyError::Storage)
            }
            Ended::Failed(Some(message)) => Err(ProxyError::Refused(hidden.plain(&message))),
            Ended::Failed(None) => Err(failed(&anyhow::anyhow!("it ended without a message"))),
            Ended::NoMemory => {
                Err(ProxyError::Refused("it needs more memory than there is".to_owned()))
            }
            Ended::Interrupted(Interruption::Late) => Err(ProxyError::Refused(format!(
                "it takes longer than the {} that it may take here",
                output::seconds(self.time.as_secs_f64())
            ))),
            Ended::Interrupted(Interruption::Cancelled | Interruption::Stopped) => {
                Err(ProxyError::Cancelled)
            }
        }
    }
}

impl Proxies for ProxyJobs {
    fn extract(&self, request: &ProxyRequest<'_>, cancelled: &Cancelled) -> Result<(), ProxyError> {
        let ProxyRequest { scores, budget, score, plan, proxy } = *request;
        let hidden =
            self.hidden(&[(scores, "the scores"), (plan, "the plan"), (proxy, "the proxy")]);
        let begin = Instant::now();
        let mut planning = started(job("plan"))?;
        planning.arg(&self.setup.foundation).arg(scores).arg("--out").arg(plan);
        let given = [
            ("--budget", budget.map(|budget| budget.to_string())),
            ("--score", score.map(|score| score.to_string())),
        ];
        for (option, value) in given {
            planning.args(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        }
        self.run(planning, &hidden, begin, cancelled)?;
        let mut extracting = started(job("extract"))?;
        extracting.arg(&self.setup.foundation).arg(plan).arg("--out").arg(proxy);
        self.run(extracting, &hidden, begin, cancelled)?;
        Ok(())
    }

    fn mount(
        &self,
        request: &MountRequest<'_>,
        cancelled: &Cancelled,
    ) -> Result<MountedProvenance, ProxyError> {
        let MountRequest { adapter, plan, validation, out } = *request;
        let sent = validation.unwrap_or_else(|| Path::new(""));
        let hidden = self.hidden(&[
            (adapter, "that was sent"),
            (plan, "the plan"),
            (sent, "validation"),
            (out, "the mounted adapter"),
        ]);
        let mut mounting = started(job("mount"))?;
        mounting.arg(&self.setup.foundation).arg(adapter).arg("--plan").arg(plan);
        mounting.arg("--out").arg(out).args(weights(&self.setup));
        match validation.or(self.validation.as_deref()) {
            Some(rows) => mounting.arg("--validation").arg(rows),
            None => mounting.args(["--routing", "restricted", "--scale", "1"]),
        };
        let is_own = validation.is_none() && self.validation.is_some();
        let report = self.run(mounting, &hidden, Instant::now(), cancelled);
        let report = report.map_err(|error| match error {
            // What is wrong with the service's rows is not the app's fault.
            ProxyError::Refused(message) if is_own && message.contains(OWN_ROWS) => {
                failed(&anyhow::anyhow!(message))
            }
            error => error,
        })?;
        let Mounted { mounted, choice, tried, by, .. } = serde_json::from_str(&report)
            .context("the report of mount is not as expected")
            .map_err(|error| failed(&error))?;
        if !mounted {
            let message = "on the validation rows the foundation alone does better";
            return Err(ProxyError::Refused(message.to_owned()));
        }
        let record = AdapterRecord::read(out).map_err(|error| failed(&error.into()))?;
        // What the service's rows are like is not for apps.
        let metrics = match is_own {
            true => json!({ "choice": choice, "by": by }),
            false => json!({ "choice": choice, "by": by, "tried": tried }),
        };
        Ok(MountedProvenance { plan: record.and_then(|record| record.plan), metrics })
    }
}

fn started(command: std::io::Result<Command>) -> Result<Command, ProxyError> {
    command.map_err(|error| failed(&error.into()))
}

/// Something is wrong with this machine.
fn failed(error: &anyhow::Error) -> ProxyError {
    tracing::error!(error = format!("{error:#}"), "a proxy failed");
    ProxyError::Failed
}

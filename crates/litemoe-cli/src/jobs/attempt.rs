//! One attempt of one job, from its rows to an adapter in its folder.

use std::path::Path;
use std::time::Instant;

use litemoe_registry::{AdapterName, Job, JobSpec, JobState, Level, Worker};
use serde_json::{Value, json};

use super::child::{self, Bounds, Ended, Interruption};
use super::command::{APP, OUT, Saving, Steps, customize};
use super::events::Events;
use super::folder::Folder;
use super::forecast::Forecast;
use super::hidden::Hidden;
use super::line::Line;
use super::made::Made;
use super::rows;
use super::setup::Setup;
use super::stop::Stop;
use crate::output;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum End {
    /// With an adapter of this name.
    Made(AdapterName, Box<Made>),
    /// With a message to the app.
    Failed(String),
    /// By its app.
    Cancelled,
    /// With the service.
    Stopped,
}

/// A job that the worker has begun.
pub(super) struct Attempt<'a> {
    pub(super) worker: &'a Worker,
    pub(super) setup: &'a Setup,
    pub(super) job: &'a Job,
    pub(super) stop: &'a Stop,
    pub(super) begin: Instant,
}

impl Attempt<'_> {
    /// Runs the job in its folder. Errors become messages without paths of this machine.
    pub(super) fn run(&self, folder: &Folder) -> End {
        let hidden = self.hidden(folder);
        self.try_run(folder, &hidden).unwrap_or_else(|error| {
            tracing::error!(job = self.job.id, error = format!("{error:#}"), "a job failed");
            End::Failed(hidden.plain(&format!("{error:#}")))
        })
    }

    fn try_run(&self, folder: &Folder, hidden: &Hidden) -> anyhow::Result<End> {
        let Self { worker, setup, job, .. } = self;
        let spec = JobSpec::of(job)?;
        spec.check()?;
        if spec.model != setup.model {
            return Ok(End::Failed(format!("the model `{}` is not served here", spec.model)));
        }
        let name = spec.adapter(&job.id)?;
        let mut events = Events::new(worker, job, hidden);
        let begun = match job.attempts {
            0 | 1 => "the job begins".to_owned(),
            n => format!("the job goes on where it was interrupted, attempt {n}"),
        };
        events.add(Level::Info, &begun, Value::Null);
        let rows = rows::write(worker.registry(), job, &spec, folder)?;
        let (saving, steps) = match self.fitting(&spec, folder, rows, hidden)? {
            Ok(fitting) => fitting,
            Err(end) => return Ok(end),
        };
        let command = customize(setup, &spec, folder, rows, saving, steps)?;
        let is_title = |line: &Line| matches!(line, Line::Note { message } if *message == title());
        let ended = child::run(command, &self.bounds(), |line| {
            if !is_title(line) {
                events.add_line(line);
            }
        })?;
        let report = match self.done(ended, hidden) {
            Ok(report) => report,
            Err(end) => return Ok(end),
        };
        let Some(made) = Made::read(&report, worker.registry(), job, &spec, folder)? else {
            return Ok(End::Failed(
                "no adapter was made: the model alone does better on the validation rows"
                    .to_owned(),
            ));
        };
        let data = json!({ "adapter": name, "metrics": made.provenance.metrics });
        events.add(Level::Info, &made.summary, data);
        Ok(End::Made(name, Box::new(made)))
    }

    /// The fastest way to tune that fits the memory, and the job's steps; or why there is none.
    fn fitting(
        &self,
        spec: &JobSpec,
        folder: &Folder,
        rows: &str,
        hidden: &Hidden,
    ) -> anyhow::Result<Result<(Saving, Option<Steps>), End>> {
        let mut excess = None;
        for saving in Saving::ALL {
            let mut command = customize(self.setup, spec, folder, rows, saving, None)?;
            command.arg("--dry-run");
            let ended = child::run(command, &self.bounds(), |_| ())?;
            let forecast = match self.done(ended, hidden) {
                Ok(forecast) => Forecast::parse(&forecast)?,
                Err(end) => return Ok(Err(end)),
            };
            excess = forecast.excess(self.setup.memory);
            if excess.is_none() {
                return Ok(Ok((saving, Steps::of(spec, forecast.training_rows())?)));
            }
        }
        Ok(Err(End::Failed(excess.unwrap_or_default())))
    }

    /// The result of a process, or the end of the job.
    fn done(&self, ended: Ended, hidden: &Hidden) -> Result<String, End> {
        match ended {
            Ended::Done(result) => Ok(result),
            Ended::Failed(Some(message)) | Ended::NoRoom(message) => {
                Err(End::Failed(hidden.plain(&message)))
            }
            Ended::Failed(None) => {
                Err(End::Failed("the process of the job ended without a message".to_owned()))
            }
            Ended::NoMemory => Err(End::Failed(match self.setup.memory {
                Some(bytes) => {
                    format!(
                        "the job needs more memory than the {} that it may have",
                        output::bytes(bytes)
                    )
                }
                None => "the job needs more memory than there is".to_owned(),
            })),
            Ended::Interrupted(Interruption::Late) => Err(End::Failed(format!(
                "the job takes longer than the {} that it may take here",
                output::seconds(self.setup.time.as_secs_f64())
            ))),
            Ended::Interrupted(Interruption::Cancelled) => Err(End::Cancelled),
            Ended::Interrupted(Interruption::Stopped) => Err(End::Stopped),
        }
    }

    fn bounds(&self) -> Bounds<impl Fn() -> Option<Interruption>> {
        Bounds { memory: self.setup.memory, interruption: || self.interruption() }
    }

    /// Why the job is to end now. One that cannot be read goes on.
    fn interruption(&self) -> Option<Interruption> {
        if self.stop.is_set() {
            return Some(Interruption::Stopped);
        }
        if self.begin.elapsed() >= self.setup.time {
            return Some(Interruption::Late);
        }
        let job = self.worker.registry().job(&self.job.app, &self.job.id);
        let is_over = job.is_ok_and(|job| job.state != JobState::Running);
        is_over.then_some(Interruption::Cancelled)
    }

    fn hidden(&self, folder: &Folder) -> Hidden {
        let registry = self.worker.registry().dir();
        let splits = Path::new(OUT).join("apps").join(APP);
        Hidden::new(&[
            (&self.setup.foundation, &self.setup.model),
            (folder.path(), "the job's folder"),
            (registry, "the registry"),
            (Path::new(rows::SINGLE), "training_file"),
            (Path::new(rows::TRAIN), "training_file"),
            (Path::new(rows::VALIDATION), "validation_file"),
            (Path::new(rows::TEST), "validation_file"),
            (&splits.join("train.jsonl"), "training_file (training rows)"),
            (&splits.join("validation.jsonl"), "training_file (validation rows)"),
            (&splits.join("test.jsonl"), "training_file (test rows)"),
            (Path::new(&format!("app {APP}: ")), ""),
        ])
    }
}

/// The note with which `customize` names the folder of an app.
fn title() -> String {
    format!("{APP}: {}", Path::new(OUT).join(APP).display())
}

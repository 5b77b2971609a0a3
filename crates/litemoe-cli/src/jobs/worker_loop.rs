//! The thread that runs the jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use litemoe_registry::{Job, JobResult, Level, Registry, RegistryError, Worker};
use serde_json::Value;

use super::attempt::{Attempt, End};
use super::child::Interruption;
use super::folder::{self, Folder};
use super::setup::Setup;
use super::stop::Stop;

/// Time between two looks at the queue.
const PAUSE: Duration = Duration::from_secs(1);

/// Maximum number of attempts of a job.
const MAX_ATTEMPTS: u32 = 5;

/// Waits for the end of another process that runs the jobs; `None` if this one is told to stop.
pub(super) fn wait(registry: &Registry, stop: &Stop) -> Option<Worker> {
    while !stop.is_set() {
        match registry.worker() {
            Ok(worker) => return Some(worker),
            Err(RegistryError::WorkerBusy) => {}
            Err(error) => tracing::error!(%error, "cannot take the jobs over"),
        }
        thread::park_timeout(PAUSE);
    }
    None
}

/// Runs queued jobs one after another until it is told to stop.
pub(super) fn run(worker: &Worker, setup: &Setup, stop: &Stop) {
    while !stop.is_set() {
        match worker.claim_next() {
            Ok(Some(job)) => {
                begin(worker, setup, stop, &job);
                continue;
            }
            Ok(None) => swept(worker),
            Err(error) => tracing::error!(%error, "cannot look for jobs"),
        }
        thread::park_timeout(PAUSE);
    }
}

fn begin(worker: &Worker, setup: &Setup, stop: &Stop, job: &Job) {
    tracing::info!(job = job.id, app = %job.app, attempt = job.attempts, "a job begins");
    let end = catch_unwind(AssertUnwindSafe(|| attempt(worker, setup, stop, job)));
    let end =
        end.unwrap_or_else(|_| End::Failed("the service has a fault: see its log".to_owned()));
    let stays = matches!(end, End::Interrupted(Interruption::Stopped));
    if let Err(error) = settle(worker, stop, job, &end) {
        tracing::error!(job = job.id, %error, "the end of a job cannot be stored");
    }
    tracing::info!(job = job.id, "a job ended, or waits");
    if !stays {
        swept(worker);
    }
}

fn attempt(worker: &Worker, setup: &Setup, stop: &Stop, job: &Job) -> End {
    if job.attempts > MAX_ATTEMPTS {
        return End::Failed(format!(
            "given up: the service ended {MAX_ATTEMPTS} times while it ran this job"
        ));
    }
    match Folder::of(worker, &job.id) {
        Ok(folder) => Attempt { worker, setup, job, stop }.run(&folder),
        Err(error) => {
            tracing::error!(job = job.id, error = format!("{error:#}"), "no folder for a job");
            End::Failed("the service cannot write the job's files: see its log".to_owned())
        }
    }
}

/// Stores the end of a job.
fn settle(worker: &Worker, stop: &Stop, job: &Job, end: &End) -> Result<(), RegistryError> {
    let stored = match end {
        End::Made(name, made) => {
            let (dir, provenance) = (made.dir.clone(), &made.provenance);
            let result = JobResult { name, dir, provenance, replaces: None };
            patiently(stop, || worker.succeed_with(job, &result).map(drop))
        }
        End::Failed(message) => fail(worker, stop, job, message),
        End::Interrupted(Interruption::Cancelled) => Ok(()),
        End::Interrupted(Interruption::Stopped) => patiently(stop, || worker.put_back(job)),
    };
    match stored {
        // The app cancelled it meanwhile.
        Ok(()) | Err(RegistryError::JobIs { .. }) => Ok(()),
        Err(error) if matches!(end, End::Made(..)) => {
            tracing::error!(job = job.id, %error, "an adapter cannot be stored");
            fail(worker, stop, job, "the adapter cannot be stored: see the service's log")
        }
        Err(error) => Err(error),
    }
}

fn fail(worker: &Worker, stop: &Stop, job: &Job, message: &str) -> Result<(), RegistryError> {
    let _ = worker.add_event(job, Level::Error, message, Value::Null);
    patiently(stop, || worker.fail(job, message))
}

/// Tries again while another process writes or the disk is full, until the service ends.
fn patiently(
    stop: &Stop,
    store: impl Fn() -> Result<(), RegistryError>,
) -> Result<(), RegistryError> {
    loop {
        match store() {
            Err(error @ (RegistryError::Busy | RegistryError::Storage { .. }))
                if !stop.is_set() =>
            {
                tracing::error!(%error, "trying again");
                thread::park_timeout(PAUSE);
            }
            stored => return stored,
        }
    }
}

fn swept(worker: &Worker) {
    if let Err(error) = folder::sweep(worker) {
        tracing::error!(error = format!("{error:#}"), "cannot remove the files of earlier jobs");
    }
}

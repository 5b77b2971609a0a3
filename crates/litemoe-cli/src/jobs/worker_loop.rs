//! The thread that runs the jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use litemoe_registry::{Job, JobResult, Level, Registry, RegistryError, Worker};
use serde_json::Value;

use super::attempt::{Attempt, End};
use super::folder::{self, Folder};
use super::patience::{Patience, may_pass};
use super::setup::Setup;
use super::stop::Stop;

/// Time between two looks at the queue.
const PAUSE: Duration = Duration::from_secs(1);

/// Time in which the end of a job is tried to be stored, before the job is queued again with its files.
const PATIENCE: Duration = Duration::from_secs(600);

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
    repeat(stop, PAUSE, || match worker.claim_next() {
        Ok(Some(job)) => {
            begin(worker, setup, stop, &job);
            true
        }
        Ok(None) => {
            swept(worker);
            false
        }
        Err(error) => {
            tracing::error!(%error, "cannot look for jobs");
            false
        }
    });
}

/// Takes turns until it is told to stop, with a pause after each that had nothing to do. A turn that panics is one of them.
fn repeat(stop: &Stop, pause: Duration, mut turn: impl FnMut() -> bool) {
    while !stop.is_set() {
        let turned = catch_unwind(AssertUnwindSafe(&mut turn));
        let had_work = turned.unwrap_or_else(|_| {
            tracing::error!("a fault in the running of jobs; it goes on");
            false
        });
        if !had_work {
            thread::park_timeout(pause);
        }
    }
}

fn begin(worker: &Worker, setup: &Setup, stop: &Stop, job: &Job) {
    tracing::info!(job = job.id, app = %job.app, attempt = job.attempts, "a job begins");
    let end = catch_unwind(AssertUnwindSafe(|| attempt(worker, setup, stop, job)));
    let end =
        end.unwrap_or_else(|_| End::Failed("the service has a fault: see its log".to_owned()));
    let is_over = catch_unwind(AssertUnwindSafe(|| settle(worker, stop, job, &end)));
    match is_over.unwrap_or(Ok(false)) {
        Ok(true) => {
            tracing::info!(job = job.id, "a job ended");
            swept(worker);
        }
        Ok(false) => {
            let put_back = || match end {
                End::Stopped => worker.put_back(job),
                _ => worker.retry_later(job),
            };
            let forever = Patience { stop, pause: PAUSE, time: None };
            match forever.run(put_back) {
                Ok(()) | Err(RegistryError::JobIs { .. }) => {
                    tracing::info!(job = job.id, "a job waits for another attempt");
                }
                Err(error) => tracing::error!(job = job.id, %error, "a job cannot be queued again"),
            }
        }
        Err(error) => tracing::error!(job = job.id, %error, "the end of a job cannot be stored"),
    }
}

fn attempt(worker: &Worker, setup: &Setup, stop: &Stop, job: &Job) -> End {
    if job.attempts > MAX_ATTEMPTS {
        return End::Failed(format!(
            "given up after {MAX_ATTEMPTS} attempts: the service ended, or could not store how the job ended"
        ));
    }
    match Folder::of(worker, &job.id) {
        Ok(folder) => Attempt { worker, setup, job, stop, begin: Instant::now() }.run(&folder),
        Err(error) => {
            tracing::error!(job = job.id, error = format!("{error:#}"), "no folder for a job");
            End::Failed("the service cannot write the job's files: see its log".to_owned())
        }
    }
}

/// Stores the end of a job; false if it is to be queued again.
fn settle(worker: &Worker, stop: &Stop, job: &Job, end: &End) -> Result<bool, RegistryError> {
    let stored = match end {
        End::Made(name, made) => {
            let (dir, provenance) = (made.dir.clone(), &made.provenance);
            let result = JobResult { name, dir, provenance, replaces: None };
            patience(stop).run(|| worker.succeed_with(job, &result).map(drop))
        }
        End::Failed(message) => fail(worker, stop, job, message),
        End::Cancelled => Ok(()),
        End::Stopped => return Ok(false),
    };
    let stored = match stored {
        Err(error) if matches!(end, End::Made(..)) && !may_pass(&error) && !is_over(&error) => {
            tracing::error!(job = job.id, %error, "an adapter cannot be stored");
            let message = match &error {
                RegistryError::TooManyBytes { .. } => {
                    format!("the adapter cannot be stored: {error}")
                }
                _ => "the adapter cannot be stored: see the service's log".to_owned(),
            };
            fail(worker, stop, job, &message)
        }
        stored => stored,
    };
    match stored {
        Ok(()) => Ok(true),
        Err(error) if is_over(&error) => Ok(true),
        Err(error) if may_pass(&error) => {
            tracing::error!(job = job.id, %error, "the end of a job cannot be stored now");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether the app ended the job meanwhile.
fn is_over(error: &RegistryError) -> bool {
    matches!(error, RegistryError::JobIs { .. })
}

fn fail(worker: &Worker, stop: &Stop, job: &Job, message: &str) -> Result<(), RegistryError> {
    let _ = worker.add_event(job, Level::Error, message, Value::Null);
    patience(stop).run(|| worker.fail(job, message))
}

fn patience(stop: &Stop) -> Patience<'_> {
    Patience { stop, pause: PAUSE, time: Some(PATIENCE) }
}

fn swept(worker: &Worker) {
    if let Err(error) = folder::sweep(worker) {
        tracing::error!(error = format!("{error:#}"), "cannot remove the files of earlier jobs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_end_the_running_of_jobs() {
        let (stop, mut n_turns) = (Stop::default(), 0);
        repeat(&stop, Duration::ZERO, || {
            n_turns += 1;
            match n_turns {
                1 => panic!("a fault"),
                2 => true,
                _ => {
                    stop.set();
                    false
                }
            }
        });
        assert_eq!(n_turns, 3);
    }
}

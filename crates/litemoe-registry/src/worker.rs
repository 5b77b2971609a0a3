use std::io::ErrorKind;
use std::path::PathBuf;

use litemoe_files::TargetLock;
use rusqlite::Transaction;
use serde_json::Value;

use crate::RegistryError;
use crate::adapter::{Owner, Provenance, StoredAdapter};
use crate::job::{self, Job, Level};
use crate::job_state::JobState;
use crate::json::Json;
use crate::name::AdapterName;
use crate::registry::Registry;
use crate::staged_adapter::{NewAdapter, StagedAdapter, next};

/// Name of the folder for files of jobs, whose lock is `.jobs.litemoe-lock`.
const JOBS: &str = "jobs";

/// The one process that runs a registry's jobs, until it is dropped or the process ends. Its threads may share it.
#[derive(Debug)]
pub struct Worker {
    registry: Registry,
    _lock: TargetLock,
}

impl Registry {
    /// Takes the registry's jobs, and queues again those that were running when an earlier worker's process died: in
    /// front of the later jobs of the same app. [`Job::attempts`] tells how often that happened.
    ///
    /// # Errors
    /// [`WorkerBusy`](RegistryError::WorkerBusy) if another worker lives, in this process or another one.
    pub fn worker(&self) -> Result<Worker, RegistryError> {
        let path = self.dir().join(JOBS);
        let lock = TargetLock::new(&path).map_err(|reason| match reason.kind() {
            ErrorKind::ResourceBusy => RegistryError::WorkerBusy,
            _ => RegistryError::unwritten(&path, reason),
        })?;
        let worker = Worker { registry: self.clone(), _lock: lock };
        worker.resume()?;
        Ok(worker)
    }
}

/// The adapter that a job made.
#[derive(Debug, Clone)]
pub struct JobResult<'a> {
    /// Name among those of the job's app.
    pub name: &'a AdapterName,
    /// Folder of its files.
    pub dir: PathBuf,
    /// What it was made from.
    pub provenance: &'a Provenance,
    /// Generation that it replaces; `None` if there is none of this name.
    pub replaces: Option<u64>,
}

impl Worker {
    fn resume(&self) -> Result<(), RegistryError> {
        self.registry.database.write(|transaction| {
            let sql = "UPDATE jobs SET state = ?, started = NULL WHERE state = ?";
            transaction.execute(sql, (JobState::Queued, JobState::Running))?;
            Ok(())
        })
    }

    /// Begins the next queued job; `None` if there is none. Apps take turns; the jobs of an app go in the order of
    /// creation.
    pub fn claim_next(&self) -> Result<Option<Job>, RegistryError> {
        // Most often there is none, which needs no lock.
        if !self.registry.database.read(job::is_any_queued)? {
            return Ok(None);
        }
        let now = self.registry.now();
        self.registry.database.write(|transaction| {
            let Some((job, number)) = job::next(transaction)? else { return Ok(None) };
            let claim = next(transaction, "claim")?;
            transaction
                .execute("UPDATE apps SET last_claim = ? WHERE name = ?", (claim, &job.app))?;
            let attempts = job.attempts.saturating_add(1);
            let sql = "UPDATE jobs SET state = ?, started = ?, attempts = ? WHERE number = ?";
            transaction.execute(sql, (JobState::Running, now, attempts, number))?;
            Ok(Some(Job { state: JobState::Running, started: Some(now), attempts, ..job }))
        })
    }

    /// Queues a running job again, as if it had not been begun.
    ///
    /// # Errors
    /// [`JobIs`](RegistryError::JobIs) if it was cancelled.
    pub fn put_back(&self, job: &Job) -> Result<(), RegistryError> {
        self.queue_again(job, 1)
    }

    /// Queues a running job again after an attempt that counts.
    ///
    /// # Errors
    /// [`JobIs`](RegistryError::JobIs) if it was cancelled.
    pub fn retry_later(&self, job: &Job) -> Result<(), RegistryError> {
        self.queue_again(job, 0)
    }

    fn queue_again(&self, job: &Job, n_undone: u32) -> Result<(), RegistryError> {
        self.registry.database.write(|transaction| {
            let number = running(transaction, job)?;
            let sql = "UPDATE jobs SET state = ?, started = NULL, attempts = max(attempts - ?, 0) \
                       WHERE number = ?";
            transaction.execute(sql, (JobState::Queued, n_undone, number))?;
            Ok(())
        })
    }

    /// Ids of the jobs of all apps that are queued or running.
    pub fn unfinished(&self) -> Result<Vec<String>, RegistryError> {
        self.registry.database.read(job::unfinished)
    }

    /// Folder of the registry that is free for files of running jobs; nothing creates it.
    pub fn dir(&self) -> PathBuf {
        self.registry.dir().join(JOBS)
    }

    /// The registry of the jobs.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds an event to a running job, and returns its number.
    ///
    /// # Errors
    /// [`JobIs`](RegistryError::JobIs) if it was cancelled.
    pub fn add_event(
        &self,
        job: &Job,
        level: Level,
        message: &str,
        data: Value,
    ) -> Result<u64, RegistryError> {
        let now = self.registry.now();
        self.registry.database.write(|transaction| {
            let job = running(transaction, job)?;
            let sql = "INSERT INTO job_events \
                       SELECT ?1, ifnull(max(number), 0) + 1, ?2, ?3, ?4, ?5 FROM job_events WHERE job = ?1 \
                       RETURNING number";
            let values = (job, now, level, message, Json(data));
            Ok(transaction.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
        })
    }

    /// Ends a running job that made nothing but events.
    ///
    /// # Errors
    /// [`JobIs`](RegistryError::JobIs) if it was cancelled.
    pub fn succeed(&self, job: &Job) -> Result<(), RegistryError> {
        self.registry
            .database
            .write(|transaction| self.finish(transaction, job, JobState::Succeeded, None, None))
    }

    /// Stores the adapter that a running job made and ends the job, both or neither.
    ///
    /// # Errors
    /// [`JobIs`](RegistryError::JobIs) if it was cancelled, and those of
    /// [`put_adapter`](Registry::put_adapter).
    pub fn succeed_with(
        &self,
        job: &Job,
        result: &JobResult<'_>,
    ) -> Result<StoredAdapter, RegistryError> {
        let JobResult { name, ref dir, provenance, replaces } = *result;
        let registry = &self.registry;
        let owner = Owner::App(job.app.clone());
        let new = NewAdapter { owner: &owner, name, dir, provenance, replaces };
        let (staged, now) = (StagedAdapter::copy(&registry.blobs, dir)?, registry.now());
        let (stored, old) = registry.storing(&staged.contents(), |transaction| {
            self.finish(transaction, job, JobState::Succeeded, Some(name), None)?;
            staged.store(transaction, &registry.blobs, &new, now)
        })?;
        registry.release(&old);
        Ok(stored)
    }

    /// Ends a running job with an error.
    ///
    /// # Errors
    /// [`JobIs`](RegistryError::JobIs) if it was cancelled.
    pub fn fail(&self, job: &Job, error: &str) -> Result<(), RegistryError> {
        self.registry
            .database
            .write(|transaction| self.finish(transaction, job, JobState::Failed, None, Some(error)))
    }

    fn finish(
        &self,
        transaction: &Transaction<'_>,
        job: &Job,
        state: JobState,
        adapter: Option<&AdapterName>,
        error: Option<&str>,
    ) -> Result<(), RegistryError> {
        let job = running(transaction, job)?;
        let sql =
            "UPDATE jobs SET state = ?, finished = ?, adapter = ?, error = ? WHERE number = ?";
        transaction.execute(sql, (state, self.registry.now(), adapter, error, job))?;
        Ok(())
    }
}

/// Number of a job that is running.
fn running(transaction: &Transaction<'_>, job: &Job) -> Result<i64, RegistryError> {
    match job::find(transaction, &job.app, &job.id)? {
        (Job { state: JobState::Running, .. }, number) => Ok(number),
        (Job { id, state, .. }, _) => Err(RegistryError::JobIs { id, state }),
    }
}

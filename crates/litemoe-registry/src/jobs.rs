//! Jobs in the database, as their apps see them.

use rusqlite::Transaction;
use serde_json::Value;

use crate::RegistryError;
use crate::app;
use crate::job::{self, Job, JobEvent};
use crate::job_spec::JobSpec;
use crate::job_state::JobState;
use crate::json::Json;
use crate::key::random_hex;
use crate::name::AppName;
use crate::page::Page;
use crate::registry::Registry;
use crate::uploads;

/// Random bytes of a job's id.
const ID_BYTES: usize = 12;

/// Maximum number of jobs of an app that are not over.
pub const MAX_QUEUED_JOBS: u32 = 20;

impl Registry {
    /// Queues a job of an app.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp), [`Revoked`](RegistryError::Revoked),
    /// [`TooManyJobs`](RegistryError::TooManyJobs).
    pub fn create_job(&self, app: &AppName, spec: Value) -> Result<Job, RegistryError> {
        self.queue(app, spec, |_| Ok(()))
    }

    fn queue(
        &self,
        app: &AppName,
        spec: Value,
        check: impl FnOnce(&Transaction<'_>) -> Result<(), RegistryError>,
    ) -> Result<Job, RegistryError> {
        let id = format!("job-{}", random_hex::<ID_BYTES>()?);
        let now = self.now();
        self.database.write(|transaction| {
            app::live(transaction, app)?;
            check(transaction)?;
            if job::n_unfinished(transaction, app)? >= MAX_QUEUED_JOBS {
                return Err(RegistryError::TooManyJobs { limit: MAX_QUEUED_JOBS });
            }
            transaction.execute(
                "INSERT INTO jobs (id, app, state, spec, created) VALUES (?, ?, ?, ?, ?)",
                (&id, app, JobState::Queued, Json(spec), now),
            )?;
            Ok(job::find(transaction, app, &id)?.0)
        })
    }

    /// Queues a fine-tuning job of an app. Its files cannot be removed until it is over.
    ///
    /// # Errors
    /// [`Spec`](RegistryError::Spec) for values out of their ranges, [`NoFile`](RegistryError::NoFile), and those of
    /// [`create_job`](Self::create_job).
    pub fn create_tuning_job(&self, app: &AppName, spec: &JobSpec) -> Result<Job, RegistryError> {
        spec.check()?;
        self.queue(app, serde_json::json!(spec), |transaction| {
            let files = [Some(&spec.training_file), spec.validation_file.as_ref()];
            files.into_iter().flatten().try_for_each(|id| {
                uploads::find(transaction, app, id)?;
                Ok(())
            })
        })
    }

    /// A job of an app.
    ///
    /// # Errors
    /// [`NoJob`](RegistryError::NoJob), also if another app has one of this id.
    pub fn job(&self, app: &AppName, id: &str) -> Result<Job, RegistryError> {
        self.database.read(|connection| Ok(job::find(connection, app, id)?.0))
    }

    /// Jobs of an app, in the order of a page.
    ///
    /// # Errors
    /// [`NoJob`](RegistryError::NoJob) if the page is after a job that is not the app's.
    pub fn jobs(&self, app: &AppName, page: Page<'_>) -> Result<Vec<Job>, RegistryError> {
        self.database.read(|connection| {
            let after = page.after.map(|id| job::find(connection, app, id)).transpose()?;
            job::list(connection, app, after.map(|(_, number)| number), page)
        })
    }

    /// At most `limit` events of an app's job, in order, from the one after the given number on: 0 begins with the first.
    ///
    /// # Errors
    /// [`NoJob`](RegistryError::NoJob).
    pub fn job_events(
        &self,
        app: &AppName,
        id: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JobEvent>, RegistryError> {
        self.database.read(|connection| {
            let (_, number) = job::find(connection, app, id)?;
            let sql = "SELECT number, created, level, message, data FROM job_events \
                       WHERE job = ? AND number > ? ORDER BY number LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let events = statement.query_map((number, after, limit), |row| {
                Ok(JobEvent {
                    number: row.get(0)?,
                    created: row.get(1)?,
                    level: row.get(2)?,
                    message: row.get(3)?,
                    data: row.get::<_, Json>(4)?.0,
                })
            })?;
            Ok(events.collect::<Result<_, _>>()?)
        })
    }

    /// Cancels a job that is queued or running. A worker that has it learns of it when it next writes to the job.
    ///
    /// # Errors
    /// [`NoJob`](RegistryError::NoJob), [`JobIs`](RegistryError::JobIs) if it is over.
    pub fn cancel_job(&self, app: &AppName, id: &str) -> Result<Job, RegistryError> {
        let now = self.now();
        self.database.write(|transaction| {
            let (job, number) = job::find(transaction, app, id)?;
            if job.state.is_final() {
                return Err(RegistryError::JobIs { id: job.id, state: job.state });
            }
            let sql = "UPDATE jobs SET state = ?, finished = ? WHERE number = ?";
            transaction.execute(sql, (JobState::Cancelled, now, number))?;
            Ok(Job { state: JobState::Cancelled, finished: Some(now), ..job })
        })
    }
}

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;
use serde_json::Value;

use crate::RegistryError;
use crate::clock::UnixTime;
use crate::job_state::JobState;
use crate::json::Json;
use crate::name::{AdapterName, AppName};
use crate::page::Page;
use crate::words::words;

/// A job of an app, such as the tuning of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// `job-` and 24 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub app: AppName,
    /// Where it is on its way.
    pub state: JobState,
    /// What to do, in the form that its worker reads.
    pub spec: Value,
    /// How often a worker began it: more than once if a worker's process died.
    pub attempts: u32,
    /// When it was created.
    pub created: UnixTime,
    /// When a worker last began it; `None` while it is queued.
    pub started: Option<UnixTime>,
    /// When it ended.
    pub finished: Option<UnixTime>,
    /// Name of the app's adapter that it made.
    pub adapter: Option<AdapterName>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Level of a job's event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Progress.
    Info,
    /// Something unusual.
    Warn,
    /// A failure.
    Error,
}

words!(Level { Info = "info", Warn = "warn", Error = "error" });

/// Something that happened while a job ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobEvent {
    /// Number among the job's events, from 1.
    pub number: u64,
    /// When it happened.
    pub created: UnixTime,
    /// How serious it is.
    pub level: Level,
    /// In words.
    pub message: String,
    /// In numbers; may be `null`.
    pub data: Value,
}

const COLUMNS: &str = "id, app, state, spec, attempts, created, started, finished, adapter, error";

impl Job {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            app: row.get(1)?,
            state: row.get(2)?,
            spec: row.get::<_, Json>(3)?.0,
            attempts: row.get(4)?,
            created: row.get(5)?,
            started: row.get(6)?,
            finished: row.get(7)?,
            adapter: row.get(8)?,
            error: row.get(9)?,
        })
    }
}

/// An app's job of an id, with its number in the order of creation.
pub(crate) fn find(
    connection: &Connection,
    app: &AppName,
    id: &str,
) -> Result<(Job, i64), RegistryError> {
    let sql = format!("SELECT {COLUMNS}, number FROM jobs WHERE app = ? AND id = ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row((app, id), |row| Ok((Job::of(row)?, row.get(10)?)));
    found.optional()?.ok_or_else(|| RegistryError::NoJob { id: id.to_owned() })
}

/// The part of an app's jobs that comes after a number, in the order of the page and with its limit.
pub(crate) fn list(
    connection: &Connection,
    app: &AppName,
    after: Option<i64>,
    page: Page<'_>,
) -> Result<Vec<Job>, RegistryError> {
    let (numbers, all) = page.order.sql();
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE app = ? AND {numbers} LIMIT ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let jobs = statement.query_map((app, after.unwrap_or(all), page.limit), Job::of)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

/// Whether any job is queued.
pub(crate) fn is_any_queued(connection: &Connection) -> Result<bool, RegistryError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = ?)";
    Ok(connection.prepare_cached(sql)?.query_row([JobState::Queued], |row| row.get(0))?)
}

/// The queued job whose turn it is: apps take turns, and the jobs of an app go in the order of creation.
pub(crate) fn next(connection: &Connection) -> Result<Option<(Job, i64)>, RegistryError> {
    let sql = "SELECT jobs.app, jobs.id FROM jobs JOIN apps ON apps.name = jobs.app \
               WHERE state = ? ORDER BY last_claim, number LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([JobState::Queued], |row| {
        Ok((row.get::<_, AppName>(0)?, row.get::<_, String>(1)?))
    });
    found.optional()?.map(|(app, id)| find(connection, &app, &id)).transpose()
}

/// Id of an app's job that reads a file and is not over.
pub(crate) fn reader(
    connection: &Connection,
    app: &AppName,
    file: &str,
) -> Result<Option<String>, RegistryError> {
    let sql = "SELECT id FROM jobs WHERE app = ? AND state IN (?, ?) \
               AND ? IN (spec ->> 'training_file', spec ->> 'validation_file') LIMIT 1";
    let values = (app, JobState::Queued, JobState::Running, file);
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(values, |row| row.get(0)).optional()?)
}

/// Number of an app's jobs that are not over.
pub(crate) fn n_unfinished(connection: &Connection, app: &AppName) -> Result<u32, RegistryError> {
    let sql = "SELECT count(*) FROM jobs WHERE app = ? AND state IN (?, ?)";
    let values = (app, JobState::Queued, JobState::Running);
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
}

/// Ids of all jobs that are not over.
pub(crate) fn unfinished(connection: &Connection) -> Result<Vec<String>, RegistryError> {
    let mut statement = connection.prepare_cached("SELECT id FROM jobs WHERE state IN (?, ?)")?;
    let ids = statement.query_map((JobState::Queued, JobState::Running), |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

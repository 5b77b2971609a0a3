use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::file_name::FileNameError;
use crate::job_spec_error::JobSpecError;
use crate::job_state::JobState;
use crate::name::NameError;
use crate::sha256_hash::Sha256Hash;

/// Errors of a registry.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum RegistryError {
    #[error("there is no registry in {}", dir.display())]
    NoRegistry { dir: PathBuf },
    #[error("{} is not a registry, and is left as it is", path.display())]
    Foreign { path: PathBuf },
    #[error(
        "{} has the format {found}, and this version of the program knows formats up to {known}",
        file.display()
    )]
    Newer { file: PathBuf, found: i64, known: i64 },
    #[error("the registry's disk is full or fails: {reason}")]
    Storage { reason: String },
    #[error("the registry cannot be written to: {reason}")]
    ReadOnly { reason: String },
    #[error("another process is writing to the registry; try again later")]
    Busy,
    #[error("the registry's database is damaged: {reason}")]
    Damaged { reason: String },
    #[error("the registry's database fails: {reason}")]
    Database { reason: rusqlite::Error },
    #[error("{}: {reason}", path.display())]
    Io { path: PathBuf, reason: io::Error },
    #[error("the system gives no random bytes: {reason}")]
    Random { reason: getrandom::Error },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    FileName(#[from] FileNameError),
    #[error("a number is too large for a registry: {reason}")]
    TooLarge { reason: String },
    #[error("there is an app `{name}` already; the name of a revoked app is not free again")]
    AppExists { name: String },
    #[error("there is no app `{name}`")]
    NoApp { name: String },
    #[error("the app `{name}` is revoked")]
    Revoked { name: String },
    #[error("there is no adapter `{name}`")]
    NoAdapter { name: String },
    #[error("the adapter `{name}` has the generation {found}, not {expected}")]
    OtherGeneration { name: String, expected: u64, found: u64 },
    #[error("there is an adapter `{name}` already, of generation {found}")]
    AdapterExists { name: String, found: u64 },
    #[error("{} is not a regular file, and an adapter is a folder of files", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} has no files", dir.display())]
    NoFiles { dir: PathBuf },
    #[error("{} has more than {max_files} files", dir.display())]
    ManyFiles { dir: PathBuf, max_files: usize },
    #[error("the content {sha256} is missing from the registry")]
    MissingContent { sha256: Sha256Hash },
    #[error("the content {sha256} is damaged: its hash is {found}")]
    DamagedContent { sha256: Sha256Hash, found: Sha256Hash },
    #[error("there is no file `{id}`")]
    NoFile { id: String },
    #[error("there is no job `{id}`")]
    NoJob { id: String },
    #[error("the job `{id}` is {state}")]
    JobIs { id: String, state: JobState },
    #[error("the app has {limit} files, as many as it may have")]
    TooManyFiles { limit: u32 },
    #[error("the app's files and adapters would have {bytes} bytes together, but may have {limit}")]
    TooManyBytes { bytes: u64, limit: u64 },
    #[error("the app has {limit} jobs that are not over, as many as it may have")]
    TooManyJobs { limit: u32 },
    #[error("the file `{id}` is used by the job `{job}`, which is not over")]
    FileInUse { id: String, job: String },
    #[error(transparent)]
    Spec(#[from] JobSpecError),
    #[error(
        "the specification of the job `{id}` is none that this version of the program knows: {reason}"
    )]
    UnknownSpec { id: String, reason: String },
    #[error("another worker has the registry's jobs")]
    WorkerBusy,
}

impl RegistryError {
    /// Error of reading, or of writing outside the registry.
    pub(crate) fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io { path: path.to_owned(), reason }
    }

    /// Error of writing to the registry.
    pub(crate) fn unwritten(path: &Path, reason: io::Error) -> Self {
        let sentence = || format!("{}: {reason}", path.display());
        match reason.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Storage { reason: sentence() }
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                Self::ReadOnly { reason: sentence() }
            }
            _ => Self::io(path, reason),
        }
    }
}

impl From<rusqlite::Error> for RegistryError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType,
            ToSqlConversionFailure,
        };
        let reason = error.to_string();
        match (&error, error.sqlite_error_code()) {
            (
                FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..),
                _,
            ) => Self::Damaged { reason },
            (ToSqlConversionFailure(_), _) => Self::TooLarge { reason },
            (_, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)) => Self::Storage { reason },
            // A database that cannot be created or written.
            (
                _,
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen),
            ) => Self::ReadOnly { reason },
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => Self::Busy,
            (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
                Self::Damaged { reason }
            }
            _ => Self::Database { reason: error },
        }
    }
}

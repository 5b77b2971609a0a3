//! Files that apps uploaded, in the database.

use std::fs::File;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use crate::RegistryError;
use crate::app;
use crate::blobs::Upload;
use crate::clock::UnixTime;
use crate::file_name::FileName;
use crate::job;
use crate::key::random_hex;
use crate::name::AppName;
use crate::page::Page;
use crate::registry::Registry;
use crate::sha256_hash::Sha256Hash;
use crate::storage;

/// Random bytes of a file's id.
const ID_BYTES: usize = 12;

/// Maximum number of files of an app.
pub const MAX_FILES_PER_APP: u32 = 10_000;

/// A file that an app uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredFile {
    /// `file-` and 24 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub app: AppName,
    /// Name that the app gave it; several files may have the same.
    pub name: FileName,
    /// What the app says it is for.
    pub purpose: String,
    /// Length of its content.
    pub bytes: u64,
    /// Hash of its content.
    pub sha256: Sha256Hash,
    /// When it was uploaded.
    pub created: UnixTime,
}

const COLUMNS: &str = "id, app, name, purpose, bytes, sha256, created";

impl Registry {
    /// Begins an upload: what is written to it becomes a file with [`add_file`](Self::add_file).
    pub fn upload(&self) -> Result<Upload, RegistryError> {
        self.blobs.upload()
    }

    /// Stores an upload as a file of an app.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp), [`Revoked`](RegistryError::Revoked),
    /// [`TooManyFiles`](RegistryError::TooManyFiles), [`TooManyBytes`](RegistryError::TooManyBytes).
    pub fn add_file(
        &self,
        app: &AppName,
        name: &FileName,
        purpose: &str,
        upload: Upload,
    ) -> Result<StoredFile, RegistryError> {
        let staged = upload.finish()?;
        let file = StoredFile {
            id: format!("file-{}", random_hex::<ID_BYTES>()?),
            app: app.clone(),
            name: name.clone(),
            purpose: purpose.to_owned(),
            bytes: staged.content.bytes,
            sha256: staged.content.sha256,
            created: self.now(),
        };
        self.storing(&[file.sha256], |transaction| {
            app::live(transaction, app)?;
            expect_room(transaction, app)?;
            let sql = format!("INSERT INTO files ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)");
            let StoredFile { id, app, name, purpose, bytes, sha256, created } = &file;
            transaction.execute(&sql, (id, app, name, purpose, bytes, sha256, created))?;
            storage::expect_within(transaction, app)?;
            self.blobs.keep(vec![staged])
        })?;
        Ok(file)
    }

    /// A file of an app.
    ///
    /// # Errors
    /// [`NoFile`](RegistryError::NoFile), also if another app has one of this id.
    pub fn file(&self, app: &AppName, id: &str) -> Result<StoredFile, RegistryError> {
        self.database.read(|connection| find(connection, app, id))
    }

    /// Files of an app, in the order of a page.
    ///
    /// # Errors
    /// [`NoFile`](RegistryError::NoFile) if the page is after a file that is not the app's.
    pub fn files(&self, app: &AppName, page: Page<'_>) -> Result<Vec<StoredFile>, RegistryError> {
        self.database.read(|connection| {
            let after = page.after.map(|id| number(connection, app, id)).transpose()?;
            let (numbers, all) = page.order.sql();
            let sql = format!("SELECT {COLUMNS} FROM files WHERE app = ? AND {numbers} LIMIT ?");
            let mut statement = connection.prepare_cached(&sql)?;
            let values = (app, after.unwrap_or(all), page.limit);
            let files = statement.query_map(values, StoredFile::of)?;
            Ok(files.collect::<Result<_, _>>()?)
        })
    }

    /// Opens the content of an app's file, which stays readable also if the file is removed.
    ///
    /// # Errors
    /// [`NoFile`](RegistryError::NoFile), [`MissingContent`](RegistryError::MissingContent).
    pub fn open_file(&self, app: &AppName, id: &str) -> Result<File, RegistryError> {
        let look = || self.file(app, id);
        let (_, content) = self.blobs.open_found(look, |blobs, file| blobs.open(file.sha256))?;
        Ok(content)
    }

    /// Removes an app's file, and its content if nothing else refers to it.
    ///
    /// # Errors
    /// [`NoFile`](RegistryError::NoFile), [`FileInUse`](RegistryError::FileInUse) while a job that is queued or running
    /// reads it.
    pub fn remove_file(&self, app: &AppName, id: &str) -> Result<(), RegistryError> {
        let removed = self.database.write(|transaction| {
            let file = find(transaction, app, id)?;
            if let Some(job) = job::reader(transaction, app, id)? {
                return Err(RegistryError::FileInUse { id: id.to_owned(), job });
            }
            transaction.execute("DELETE FROM files WHERE app = ? AND id = ?", (app, id))?;
            Ok(file.sha256)
        })?;
        self.release(&[removed]);
        Ok(())
    }
}

pub(crate) fn find(
    connection: &Connection,
    app: &AppName,
    id: &str,
) -> Result<StoredFile, RegistryError> {
    let sql = format!("SELECT {COLUMNS} FROM files WHERE app = ? AND id = ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row((app, id), StoredFile::of).optional()?;
    found.ok_or_else(|| RegistryError::NoFile { id: id.to_owned() })
}

/// Refuses a further file of an app that has as many as it may have.
fn expect_room(connection: &Connection, app: &AppName) -> Result<(), RegistryError> {
    let sql = "SELECT count(*) FROM files WHERE app = ?";
    let n_files: u32 = connection.prepare_cached(sql)?.query_row([app], |row| row.get(0))?;
    match n_files < MAX_FILES_PER_APP {
        true => Ok(()),
        false => Err(RegistryError::TooManyFiles { limit: MAX_FILES_PER_APP }),
    }
}

/// Number of an app's file in the order of upload.
fn number(connection: &Connection, app: &AppName, id: &str) -> Result<i64, RegistryError> {
    let sql = "SELECT number FROM files WHERE app = ? AND id = ?";
    let found =
        connection.prepare_cached(sql)?.query_row((app, id), |row| row.get(0)).optional()?;
    found.ok_or_else(|| RegistryError::NoFile { id: id.to_owned() })
}

impl StoredFile {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            app: row.get(1)?,
            name: row.get(2)?,
            purpose: row.get(3)?,
            bytes: row.get(4)?,
            sha256: row.get(5)?,
            created: row.get(6)?,
        })
    }
}

//! The SQLite database of a registry: opening, and transactions.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::RegistryError;
use crate::migrations::{self, Format};

/// Time to wait for the transactions of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between tries where SQLite does not wait itself.
const BUSY_RETRY: Duration = Duration::from_millis(2);

/// Database with one connection that writes and one that reads, so that readers do not wait for the disk.
#[derive(Debug)]
pub(crate) struct Database {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl Database {
    /// Opens a file, which is created with `creates`, and brings it to the current format.
    pub(crate) fn open(file: &Path, creates: bool) -> Result<Self, RegistryError> {
        let mut writer = connect(file, creates)?;
        // Before anything is written: the file may be another program's.
        let format = migrations::format(&writer, file)?;
        durable(&writer)?;
        if format != Format::Current {
            migrations::migrate(&mut writer, file)?;
        }
        let reader = connect(file, false)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(Self { writer: Mutex::new(writer), reader: Mutex::new(reader) })
    }

    /// Runs a function on one state of the database.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut reader = lock(&self.reader);
        let transaction = reader.transaction()?;
        read(&transaction)
    }

    /// Runs a function alone among those that write, in any process. What it changed is on the disk when this returns, or
    /// nothing of it if it fails.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = write(&transaction)?;
        transaction.commit()?;
        Ok(written)
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A panic drops its transaction, which undoes it.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(file: &Path, creates: bool) -> Result<Connection, RegistryError> {
    let create = if creates { OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::empty() };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Write-ahead log, fsynced at every commit.
fn durable(connection: &Connection) -> Result<(), RegistryError> {
    let start = Instant::now();
    let mode: String = loop {
        let set = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match set.map_err(RegistryError::from) {
            // SQLite itself does not wait here for another process that creates the same database.
            Err(RegistryError::Busy) if start.elapsed() < BUSY_TIMEOUT => thread::sleep(BUSY_RETRY),
            mode => break mode?,
        }
    };
    if mode != "wal" {
        let reason = format!("its journal is of the kind {mode:?}, not a write-ahead log");
        return Err(RegistryError::Storage { reason });
    }
    Ok(connection.pragma_update(None, "synchronous", "FULL")?)
}

//! The SQLite database of a registry: opening, and transactions.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::RegistryError;
use crate::migrations::{self, Format};
use crate::readers::Readers;

/// Time to wait for the transactions of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads that go on at the same time.
const N_READERS: usize = 4;

/// Time between tries where SQLite does not wait itself.
const BUSY_RETRY: Duration = Duration::from_millis(2);

/// Database with one connection that writes and several that read, so that readers do not wait for the disk, and a short
/// read does not wait for a long one.
#[derive(Debug)]
pub(crate) struct Database {
    writer: Mutex<Connection>,
    readers: Readers,
}

impl Database {
    /// Opens a file, which is created with `creates`, and brings it to the current format.
    pub(crate) fn open(file: &Path, creates: bool) -> Result<Self, RegistryError> {
        if creates {
            create_private(file).map_err(|reason| RegistryError::unwritten(file, reason))?;
        }
        let mut writer = connect(file)?;
        // Before anything is written: the file may be another program's.
        let format = migrations::format(&writer, file)?;
        durable(&writer)?;
        if format != Format::Current {
            migrations::migrate(&mut writer, file)?;
        }
        let readers = (0..N_READERS).map(|_| {
            let reader = connect(file)?;
            reader.pragma_update(None, "query_only", true)?;
            Ok(reader)
        });
        let readers = Readers::new(readers.collect::<Result<_, RegistryError>>()?);
        Ok(Self { writer: Mutex::new(writer), readers })
    }

    /// Runs a function on one state of the database.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.readers.with(|reader| {
            let transaction = reader.transaction()?;
            read(&transaction)
        })
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

/// Creates an empty database for its user alone, unless there is one. SQLite gives its log the same permissions.
fn create_private(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop)
}

fn connect(file: &Path) -> Result<Connection, RegistryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_long_read_does_not_hold_up_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = Database::open(&dir.path().join("registry.db"), true).expect("a database");
        thread::scope(|scope| {
            let (begun, begins) = mpsc::channel();
            let (end, ends) = mpsc::channel::<()>();
            scope.spawn({
                let database = &database;
                move || {
                    let long = database.read(|_| {
                        begun.send(()).expect("awaited");
                        // Until the other read is done, or has failed.
                        let _ = ends.recv_timeout(Duration::from_secs(60));
                        Ok(())
                    });
                    long.expect("read");
                }
            });
            begins.recv().expect("it begins");
            let begin = Instant::now();
            database.read(|_| Ok(())).expect("read");
            assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
            drop(end);
        });
    }

    #[test]
    fn reads_wait_for_a_free_connection_and_panics_leave_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = Database::open(&dir.path().join("registry.db"), true).expect("a database");
        thread::scope(|scope| {
            let reads: Vec<_> = (0..4 * N_READERS)
                .map(|_| scope.spawn(|| database.read::<()>(|_| panic!("a read that fails"))))
                .collect();
            reads.into_iter().for_each(|read| drop(read.join().expect_err("it panics")));
        });
        database.read(|_| Ok(())).expect("a connection is free");
    }
}

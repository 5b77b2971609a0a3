//! Formats of the database, by `PRAGMA user_version`.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::RegistryError;

/// Scripts from each format to the next; the first one from an empty database.
const SCRIPTS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// `PRAGMA application_id` of a registry: `lmrg`.
const APPLICATION: i64 = 0x6c6d_7267;

/// Format of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One of an earlier version, or an empty database.
    Earlier(usize),
    /// That of this version.
    Current,
}

/// Format of a database, which is not changed.
///
/// # Errors
/// If it is another program's, or a later version's.
pub(crate) fn format(connection: &Connection, file: &Path) -> Result<Format, RegistryError> {
    let foreign = || RegistryError::Foreign { path: file.to_owned() };
    // One statement, so one state: another process may be creating it.
    let sql = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
               FROM pragma_application_id, pragma_user_version";
    let (application, found, n_tables): (i64, i64, i64) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if application != APPLICATION {
        return match (application, found, n_tables) {
            (0, 0, 0) => Ok(Format::Earlier(0)),
            _ => Err(foreign()),
        };
    }
    match usize::try_from(found) {
        Ok(found) if found == SCRIPTS.len() => Ok(Format::Current),
        Ok(found) if found < SCRIPTS.len() => Ok(Format::Earlier(found)),
        Ok(_) => {
            Err(RegistryError::Newer { file: file.to_owned(), found, known: SCRIPTS.len() as i64 })
        }
        Err(_) => Err(foreign()),
    }
}

/// Brings a database to the current format, in one transaction.
pub(crate) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), RegistryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated it since.
    let Format::Earlier(found) = format(&transaction, file)? else { return Ok(()) };
    for script in &SCRIPTS[found..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCRIPTS.len() as i64)?;
    Ok(transaction.commit()?)
}

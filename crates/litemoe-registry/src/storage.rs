//! How many bytes an app stores.

use rusqlite::Connection;

use crate::RegistryError;
use crate::adapter::{self, Owner};
use crate::app;
use crate::name::{AdapterName, AppName};

/// Checks that the files and adapters of an app, with what was just added, are within its limit.
///
/// # Errors
/// [`TooManyBytes`](RegistryError::TooManyBytes).
pub(crate) fn expect_within(connection: &Connection, app: &AppName) -> Result<(), RegistryError> {
    let Some(limit) = app::live(connection, app)?.settings.storage_bytes else { return Ok(()) };
    let bytes = stored(connection, app)?;
    match bytes <= limit {
        true => Ok(()),
        false => Err(RegistryError::TooManyBytes { bytes, limit }),
    }
}

/// Checks that an app has room for an adapter of so many bytes, in place of its own of the name.
pub(crate) fn expect_room_for_adapter(
    connection: &Connection,
    app: &AppName,
    name: &AdapterName,
    bytes: u64,
) -> Result<(), RegistryError> {
    let Some(limit) = app::live(connection, app)?.settings.storage_bytes else { return Ok(()) };
    let replaced = adapter::find(connection, &Owner::App(app.clone()), name)?;
    let replaced = replaced.into_iter().flat_map(|it| it.files).map(|file| file.bytes).sum();
    let bytes = stored(connection, app)?.saturating_sub(replaced).saturating_add(bytes);
    match bytes <= limit {
        true => Ok(()),
        false => Err(RegistryError::TooManyBytes { bytes, limit }),
    }
}

/// Bytes of an app's files and adapters; equal contents count each time.
fn stored(connection: &Connection, app: &AppName) -> Result<u64, RegistryError> {
    let sql = "SELECT (SELECT ifnull(sum(bytes), 0) FROM files WHERE app = ?1) + \
               (SELECT ifnull(sum(adapter_files.bytes), 0) FROM adapter_files \
               JOIN adapters USING (generation) WHERE owner = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([app], |row| row.get(0))?)
}

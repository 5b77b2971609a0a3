//! Keys of apps in the database.

use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;

use crate::RegistryError;
use crate::app::{self, App};
use crate::clock::UnixTime;
use crate::key::{GivenKey, NewKey};
use crate::name::AppName;
use crate::registry::Registry;
use crate::sha256_hash::Sha256Hash;

/// A valid key of an app, without its secret, which is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Public id.
    pub id: String,
    /// When it was made.
    pub created: UnixTime,
    /// When it stops, after a rotation with a grace period.
    pub expires: Option<UnixTime>,
}

impl Registry {
    /// The app of a key as a client sent it; `None` for a key that is not valid, whatever the reason. An id that does not
    /// exist costs the same work as one with another secret.
    pub fn authenticate(&self, key: &str) -> Result<Option<App>, RegistryError> {
        let (key, now) = (GivenKey::of(key), self.now());
        self.database.read(|connection| {
            let found = stored(connection, key.id)?;
            if !key.has_hash(found.as_ref().map(|found| found.secret)) {
                return Ok(None);
            }
            let valid = found.filter(|found| found.expires.is_none_or(|end| now < end));
            let Some(Stored { app, .. }) = valid else { return Ok(None) };
            Ok(app::find(connection, &app)?.filter(|app| app.revoked.is_none()))
        })
    }

    /// Keys of an app that are valid, by the time they were made.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp).
    pub fn keys(&self, app: &AppName) -> Result<Vec<KeyInfo>, RegistryError> {
        let now = self.now();
        self.database.read(|connection| {
            app::known(connection, app)?;
            let sql = "SELECT id, created, expires FROM keys \
                       WHERE app = ? AND (expires IS NULL OR expires > ?) ORDER BY created, id";
            let mut statement = connection.prepare_cached(sql)?;
            let keys = statement.query_map((app, now), |row| {
                Ok(KeyInfo { id: row.get(0)?, created: row.get(1)?, expires: row.get(2)? })
            })?;
            Ok(keys.collect::<Result<_, _>>()?)
        })
    }
}

struct Stored {
    app: AppName,
    secret: Sha256Hash,
    expires: Option<UnixTime>,
}

fn stored(connection: &Connection, id: &str) -> Result<Option<Stored>, RegistryError> {
    let sql = "SELECT app, secret_sha256, expires FROM keys WHERE id = ?";
    let found = connection.prepare_cached(sql)?.query_row([id], |row| {
        Ok(Stored { app: row.get(0)?, secret: row.get(1)?, expires: row.get(2)? })
    });
    Ok(found.optional()?)
}

pub(crate) fn insert_key(
    transaction: &Transaction<'_>,
    key: &NewKey,
    app: &AppName,
    now: UnixTime,
) -> Result<(), RegistryError> {
    let sql = "INSERT INTO keys (id, app, secret_sha256, created) VALUES (?, ?, ?, ?)";
    transaction.execute(sql, (key.id(), app, key.secret_hash(), now))?;
    Ok(())
}

/// Ends all keys of an app at a time, unless they end earlier, and removes those that have ended.
pub(crate) fn expire_keys(
    transaction: &Transaction<'_>,
    app: &AppName,
    now: UnixTime,
    end: UnixTime,
) -> Result<(), RegistryError> {
    transaction.execute("DELETE FROM keys WHERE app = ? AND expires <= ?", (app, now))?;
    let sql = "UPDATE keys SET expires = min(ifnull(expires, ?1), ?1) WHERE app = ?2";
    transaction.execute(sql, (end, app))?;
    Ok(())
}

/// Removes all keys of an app. They do not only expire, so that no change of the clock makes them valid again.
pub(crate) fn remove_keys(
    transaction: &Transaction<'_>,
    app: &AppName,
) -> Result<(), RegistryError> {
    transaction.execute("DELETE FROM keys WHERE app = ?", [app])?;
    Ok(())
}

//! Removal of contents that nothing refers to.

use std::collections::BTreeSet;
use std::fs;

use rusqlite::{Connection, Transaction};
use serde::Serialize;

use crate::RegistryError;
use crate::registry::Registry;
use crate::sha256_hash::Sha256Hash;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Number of contents.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Registry {
    /// Garbage collection: removes the contents that neither an adapter nor a file refers to. A process that died while it
    /// stored or removed something leaves such contents.
    pub fn collect_garbage(&self) -> Result<Collected, RegistryError> {
        let dir = self.blobs.dir();
        let read = |reason| RegistryError::io(dir, reason);
        self.database.write(|transaction| {
            let referred = referred(transaction)?;
            let mut collected = Collected::default();
            for entry in fs::read_dir(dir).map_err(read)? {
                let entry = entry.map_err(read)?;
                let name = entry.file_name();
                let sha256 = name.to_str().and_then(|name| name.parse::<Sha256Hash>().ok());
                let Some(sha256) = sha256.filter(|sha256| !referred.contains(sha256)) else {
                    continue;
                };
                let bytes = entry.metadata().map_err(read)?.len();
                if self.blobs.remove(sha256)? {
                    collected.contents += 1;
                    collected.bytes += bytes;
                }
            }
            Ok(collected)
        })
    }

    /// A transaction that keeps contents; if it fails, they are removed again unless something else refers to them.
    pub(crate) fn storing<T>(
        &self,
        contents: &[Sha256Hash],
        write: impl FnOnce(&Transaction<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let written = self.database.write(write);
        if written.is_err() {
            self.release(contents);
        }
        written
    }

    /// Removes those of some contents that nothing refers to any more. What fails is left to
    /// [`collect_garbage`](Self::collect_garbage): whatever referred to them is gone already.
    pub(crate) fn release(&self, contents: &[Sha256Hash]) {
        if contents.is_empty() {
            return;
        }
        let _ = self.database.write(|transaction| {
            for &sha256 in contents {
                if !is_referred(transaction, sha256)? {
                    self.blobs.remove(sha256)?;
                }
            }
            Ok(())
        });
    }
}

/// Contents that an adapter or a file refers to.
fn referred(connection: &Connection) -> Result<BTreeSet<Sha256Hash>, RegistryError> {
    let sql = "SELECT sha256 FROM adapter_files UNION SELECT sha256 FROM files";
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn is_referred(connection: &Connection, sha256: Sha256Hash) -> Result<bool, RegistryError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM adapter_files WHERE sha256 = ?1) \
               OR EXISTS (SELECT 1 FROM files WHERE sha256 = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([sha256], |row| row.get(0))?)
}

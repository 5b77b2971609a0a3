use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::RegistryError;
use crate::clock::UnixTime;
use crate::file_name::FileName;
use crate::json::Json;
use crate::name::{AdapterName, AppName};
use crate::sha256_hash::Sha256Hash;

/// Whose an adapter is. In JSON the app's name, or `null`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The service's: apps may use it that have it in [`Settings::adapters`](crate::Settings::adapters).
    Shared,
    /// An app's: no other app may use it.
    App(AppName),
}

impl Owner {
    pub(crate) fn app(&self) -> Option<&AppName> {
        match self {
            Self::Shared => None,
            Self::App(name) => Some(name),
        }
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.app().serialize(serializer)
    }
}

/// What an adapter was made from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// Fingerprint of the foundation.
    pub foundation: String,
    /// Hash of the plan, if it was tuned on a proxy.
    pub plan: Option<String>,
    /// Hash of the training data.
    pub data: Option<String>,
    /// Results of its evaluation; `null` if there are none.
    pub metrics: Value,
}

/// File of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdapterFile {
    /// Its name in the adapter's directory.
    pub name: FileName,
    /// Hash of its content.
    pub sha256: Sha256Hash,
    /// Length of its content.
    pub bytes: u64,
}

/// A stored adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredAdapter {
    /// Whose it is.
    pub owner: Owner,
    /// Its name among those of the owner.
    pub name: AdapterName,
    /// Number that no other adapter, and no other content of this one, ever has in this registry; later contents have
    /// larger ones.
    pub generation: u64,
    /// Random name of this content, for its app: unlike the generation it does not tell how many there are of others.
    pub tag: String,
    /// What it was made from.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// When its name was first stored.
    pub created: UnixTime,
    /// When this content was stored.
    pub updated: UnixTime,
    /// Its files, by name.
    pub files: Vec<AdapterFile>,
}

const COLUMNS: &str =
    "owner, name, generation, foundation, plan, data, metrics, created, updated, tag";

impl StoredAdapter {
    /// Without the files.
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            owner: row.get::<_, Option<AppName>>(0)?.map_or(Owner::Shared, Owner::App),
            name: row.get(1)?,
            generation: row.get(2)?,
            provenance: Provenance {
                foundation: row.get(3)?,
                plan: row.get(4)?,
                data: row.get(5)?,
                metrics: row.get::<_, Json>(6)?.0,
            },
            created: row.get(7)?,
            updated: row.get(8)?,
            tag: row.get(9)?,
            files: Vec::new(),
        })
    }

    fn with_files(mut self, connection: &Connection) -> Result<Self, RegistryError> {
        let sql =
            "SELECT name, sha256, bytes FROM adapter_files WHERE generation = ? ORDER BY name";
        let mut statement = connection.prepare_cached(sql)?;
        let files = statement.query_map([self.generation], |row| {
            Ok(AdapterFile { name: row.get(0)?, sha256: row.get(1)?, bytes: row.get(2)? })
        })?;
        self.files = files.collect::<Result<_, _>>()?;
        Ok(self)
    }
}

/// An owner's adapter of a name.
pub(crate) fn find(
    connection: &Connection,
    owner: &Owner,
    name: &AdapterName,
) -> Result<Option<StoredAdapter>, RegistryError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM adapters WHERE ifnull(owner, '') = ifnull(?, '') AND name = ?"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row((owner.app(), name), StoredAdapter::of).optional()?;
    found.map(|found| found.with_files(connection)).transpose()
}

/// An owner's adapters, by name.
pub(crate) fn list(
    connection: &Connection,
    owner: &Owner,
) -> Result<Vec<StoredAdapter>, RegistryError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM adapters WHERE ifnull(owner, '') = ifnull(?, '') ORDER BY name"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map([owner.app()], StoredAdapter::of)?;
    let found = found.collect::<Result<Vec<_>, _>>()?;
    found.into_iter().map(|adapter| adapter.with_files(connection)).collect()
}

pub(crate) fn none(name: &AdapterName) -> RegistryError {
    RegistryError::NoAdapter { name: name.to_string() }
}

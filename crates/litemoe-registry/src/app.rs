use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use crate::RegistryError;
use crate::clock::UnixTime;
use crate::name::AppName;
use crate::settings::{self, Settings};

/// A use of the model, with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct App {
    /// Its name, which no other app ever has.
    pub name: AppName,
    /// What it may use, and how much of it.
    #[serde(flatten)]
    pub settings: Settings,
    /// When it was added.
    pub created: UnixTime,
    /// When it was revoked: its keys are gone, and what it owns is left.
    pub revoked: Option<UnixTime>,
}

impl App {
    pub(crate) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            created: row.get(1)?,
            revoked: row.get(2)?,
            settings: Settings::of(row, 3)?,
        })
    }
}

/// An app, if there is one of the name.
pub(crate) fn find(connection: &Connection, name: &AppName) -> Result<Option<App>, RegistryError> {
    let sql = format!("SELECT {} FROM apps WHERE name = ?", columns());
    Ok(connection.prepare_cached(&sql)?.query_row([name], App::of).optional()?)
}

/// An app, also a revoked one.
pub(crate) fn known(connection: &Connection, name: &AppName) -> Result<App, RegistryError> {
    find(connection, name)?.ok_or_else(|| RegistryError::NoApp { name: name.to_string() })
}

/// An app that is not revoked.
pub(crate) fn live(connection: &Connection, name: &AppName) -> Result<App, RegistryError> {
    let app = known(connection, name)?;
    match app.revoked {
        None => Ok(app),
        Some(_) => Err(RegistryError::Revoked { name: name.to_string() }),
    }
}

/// Columns of an app, in the order of [`App::of`].
pub(crate) fn columns() -> String {
    format!("name, created, revoked, {}", settings::COLUMNS)
}

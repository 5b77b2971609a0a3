//! Apps in the database.

use std::time::Duration;

use crate::app::{App, columns, find, known, live};
use crate::key::NewKey;
use crate::keys::{expire_keys, insert_key, remove_keys};
use crate::name::AppName;
use crate::registry::Registry;
use crate::settings::{self, Settings};
use crate::{JobState, RegistryError};

impl Registry {
    /// Adds an app and gives it a key.
    ///
    /// # Errors
    /// [`AppExists`](RegistryError::AppExists), also if that one is revoked.
    pub fn add_app(&self, name: &AppName, settings: &Settings) -> Result<NewKey, RegistryError> {
        let (key, now) = (NewKey::random()?, self.now());
        self.database.write(|transaction| {
            if find(transaction, name)?.is_some() {
                return Err(RegistryError::AppExists { name: name.to_string() });
            }
            let sql = format!(
                "INSERT INTO apps ({}, name, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                settings::COLUMNS
            );
            let values = settings.values().into_iter().chain([name as _, &now as _]);
            transaction.execute(&sql, rusqlite::params_from_iter(values))?;
            insert_key(transaction, &key, name, now)
        })?;
        Ok(key)
    }

    /// All apps by name, revoked ones too.
    pub fn apps(&self) -> Result<Vec<App>, RegistryError> {
        self.database.read(|connection| {
            let sql = format!("SELECT {} FROM apps ORDER BY name", columns());
            let mut statement = connection.prepare_cached(&sql)?;
            let apps = statement.query_map([], App::of)?;
            Ok(apps.collect::<Result<_, _>>()?)
        })
    }

    /// Whether an app was ever added. A service that asks for keys does not stop to when the last app is revoked.
    pub fn has_apps(&self) -> Result<bool, RegistryError> {
        self.database.read(|connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM apps)";
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        })
    }

    /// An app, also a revoked one.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp).
    pub fn app(&self, name: &AppName) -> Result<App, RegistryError> {
        self.database.read(|connection| known(connection, name))
    }

    /// Changes an app's settings, and returns the app.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp), [`Revoked`](RegistryError::Revoked).
    pub fn set_app(
        &self,
        name: &AppName,
        change: impl FnOnce(&mut Settings),
    ) -> Result<App, RegistryError> {
        self.database.write(|transaction| {
            let mut app = live(transaction, name)?;
            change(&mut app.settings);
            let values = app.settings.values().into_iter().chain([name as _]);
            let sql = format!(
                "UPDATE apps SET ({}) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE name = ?",
                settings::COLUMNS
            );
            transaction.execute(&sql, rusqlite::params_from_iter(values))?;
            Ok(app)
        })
    }

    /// Gives an app a new key. Its other keys are valid until the end of the grace period, at the longest; without one
    /// they stop at once.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp), [`Revoked`](RegistryError::Revoked).
    pub fn rotate_key(&self, name: &AppName, grace: Duration) -> Result<NewKey, RegistryError> {
        let (key, now) = (NewKey::random()?, self.now());
        self.database.write(|transaction| {
            live(transaction, name)?;
            if grace.is_zero() {
                remove_keys(transaction, name)?;
            } else {
                expire_keys(transaction, name, now, now.after(grace))?;
            }
            insert_key(transaction, &key, name, now)
        })?;
        Ok(key)
    }

    /// Revokes an app for good: its keys stop at once, and its jobs that are queued or running are cancelled. What it owns
    /// and its usage are left.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp), [`Revoked`](RegistryError::Revoked).
    pub fn revoke_app(&self, name: &AppName) -> Result<(), RegistryError> {
        let now = self.now();
        self.database.write(|transaction| {
            live(transaction, name)?;
            remove_keys(transaction, name)?;
            transaction.execute("UPDATE apps SET revoked = ? WHERE name = ?", (now, name))?;
            transaction.execute(
                "UPDATE jobs SET state = ?1, finished = ?2 WHERE app = ?3 AND state IN (?4, ?5)",
                (JobState::Cancelled, now, name, JobState::Queued, JobState::Running),
            )?;
            Ok(())
        })
    }
}

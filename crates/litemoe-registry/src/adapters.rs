//! Adapters in the database.

use std::path::Path;

use litemoe_files::StagedDir;

use crate::RegistryError;
use crate::adapter::{self, Owner, StoredAdapter};
use crate::app::App;
use crate::blobs::{CopyError, copy};
use crate::name::{AdapterName, AppName};
use crate::registry::{Registry, STAGED};
use crate::staged_adapter::{NewAdapter, StagedAdapter, expect_generation};
use crate::storage;

impl Registry {
    /// Stores the files of a folder as an adapter, in place of the generation that it replaces (compare and swap).
    ///
    /// # Errors
    /// [`AdapterExists`](RegistryError::AdapterExists), [`OtherGeneration`](RegistryError::OtherGeneration) or
    /// [`NoAdapter`](RegistryError::NoAdapter) if another generation, or none, is there than the one to be replaced;
    /// [`NoApp`](RegistryError::NoApp), [`Revoked`](RegistryError::Revoked),
    /// [`TooManyBytes`](RegistryError::TooManyBytes); a folder that is empty or has anything but
    /// regular files.
    pub fn put_adapter(&self, new: &NewAdapter<'_>) -> Result<StoredAdapter, RegistryError> {
        let (staged, now) = (StagedAdapter::copy(&self.blobs, new.dir)?, self.now());
        let (stored, old) = self.storing(&staged.contents(), |transaction| {
            staged.store(transaction, &self.blobs, new, now)
        })?;
        self.release(&old);
        Ok(stored)
    }

    /// An owner's adapter.
    ///
    /// # Errors
    /// [`NoAdapter`](RegistryError::NoAdapter), also if another owner has one of the name.
    pub fn adapter(
        &self,
        owner: &Owner,
        name: &AdapterName,
    ) -> Result<StoredAdapter, RegistryError> {
        self.database.read(|connection| {
            adapter::find(connection, owner, name)?.ok_or_else(|| adapter::none(name))
        })
    }

    /// An owner's adapters, by name.
    pub fn adapters(&self, owner: &Owner) -> Result<Vec<StoredAdapter>, RegistryError> {
        self.database.read(|connection| adapter::list(connection, owner))
    }

    /// The adapter that an app means by a name: its own, else the shared one, if it may use it.
    ///
    /// # Errors
    /// [`NoAdapter`](RegistryError::NoAdapter), whether there is none, or one that the app may not use.
    pub fn usable_adapter(
        &self,
        app: &App,
        name: &AdapterName,
    ) -> Result<StoredAdapter, RegistryError> {
        self.database.read(|connection| {
            let own = adapter::find(connection, &Owner::App(app.name.clone()), name)?;
            let shared = || match app.settings.adapters.has(name.as_str()) {
                true => adapter::find(connection, &Owner::Shared, name),
                false => Ok(None),
            };
            own.map_or_else(shared, |own| Ok(Some(own)))?.ok_or_else(|| adapter::none(name))
        })
    }

    /// The adapters that an app may use, by name, as [`usable_adapter`](Self::usable_adapter) finds them.
    pub fn usable_adapters(&self, app: &App) -> Result<Vec<StoredAdapter>, RegistryError> {
        self.database.read(|connection| {
            let mut usable = adapter::list(connection, &Owner::App(app.name.clone()))?;
            let mut shared = adapter::list(connection, &Owner::Shared)?;
            shared.retain(|shared| {
                let name = &shared.name;
                app.settings.adapters.has(name.as_str())
                    && usable.iter().all(|own| own.name != *name)
            });
            usable.append(&mut shared);
            usable.sort_by(|x, y| x.name.cmp(&y.name));
            Ok(usable)
        })
    }

    /// Writes an adapter's files to a folder, which appears whole or not at all, and must be empty or not exist.
    ///
    /// # Errors
    /// [`NoAdapter`](RegistryError::NoAdapter), contents that are missing or damaged, and those of the folder.
    pub fn materialise_adapter(
        &self,
        owner: &Owner,
        name: &AdapterName,
        dir: &Path,
    ) -> Result<StoredAdapter, RegistryError> {
        let (adapter, staged) = self.stage_adapter(owner, name, dir)?;
        staged.commit().map_err(|reason| RegistryError::io(dir, reason))?;
        Ok(adapter)
    }

    /// Runs a function on a temporary folder of an adapter's files, which is in the registry's directory.
    ///
    /// # Errors
    /// [`NoAdapter`](RegistryError::NoAdapter), contents that are missing or damaged, and those of the folder.
    pub fn read_adapter<T>(
        &self,
        owner: &Owner,
        name: &AdapterName,
        read: impl FnOnce(&Path) -> T,
    ) -> Result<(StoredAdapter, T), RegistryError> {
        let (adapter, staged) = self.stage_adapter(owner, name, &self.dir().join(STAGED))?;
        Ok((adapter, read(staged.path())))
    }

    /// Checks that an app has room for an adapter of so many bytes, before it is made.
    ///
    /// # Errors
    /// [`TooManyBytes`](RegistryError::TooManyBytes), [`NoApp`](RegistryError::NoApp),
    /// [`Revoked`](RegistryError::Revoked).
    pub fn expect_room_for_adapter(
        &self,
        app: &AppName,
        name: &AdapterName,
        bytes: u64,
    ) -> Result<(), RegistryError> {
        self.database
            .read(|connection| storage::expect_room_for_adapter(connection, app, name, bytes))
    }

    /// A temporary folder in the registry's directory, for an adapter that is received. It is never committed; the next one
    /// removes those that dead processes left.
    ///
    /// # Errors
    /// Those of creating it.
    pub fn staged_dir(&self) -> Result<StagedDir, RegistryError> {
        let dir = self.dir().join(STAGED);
        let staged = StagedDir::new(&dir, |_| false).and_then(|staged| {
            keep_private(staged.path())?;
            Ok(staged)
        });
        staged.map_err(|reason| RegistryError::unwritten(&dir, reason))
    }

    /// An adapter's files in the staged directory of a target.
    fn stage_adapter(
        &self,
        owner: &Owner,
        name: &AdapterName,
        dir: &Path,
    ) -> Result<(StoredAdapter, StagedDir), RegistryError> {
        let write = |reason| RegistryError::unwritten(dir, reason);
        let look = || self.adapter(owner, name);
        let (adapter, files) = self.blobs.open_found(look, |blobs, adapter| {
            let files = adapter.files.iter().map(|file| blobs.open(file.sha256));
            files.collect::<Result<Vec<_>, _>>()
        })?;
        let mut staged = StagedDir::new(dir, |_| false).map_err(write)?;
        for (file, mut content) in adapter.files.iter().zip(files) {
            let mut to = staged.file(file.name.as_str()).map_err(write)?;
            let found = copy(&mut content, &mut to).map_err(|error| match error {
                CopyError::Read(reason) => RegistryError::io(&self.blobs.path(file.sha256), reason),
                CopyError::Write(reason) => write(reason),
            })?;
            let found = found.sha256;
            if found != file.sha256 {
                return Err(RegistryError::DamagedContent { sha256: file.sha256, found });
            }
        }
        Ok((adapter, staged))
    }

    /// Removes an owner's adapter, of a generation if one is given, and the contents that nothing else refers to.
    ///
    /// # Errors
    /// [`NoAdapter`](RegistryError::NoAdapter), [`OtherGeneration`](RegistryError::OtherGeneration).
    pub fn remove_adapter(
        &self,
        owner: &Owner,
        name: &AdapterName,
        generation: Option<u64>,
    ) -> Result<(), RegistryError> {
        let removed = self.database.write(|transaction| {
            let found = adapter::find(transaction, owner, name)?;
            let adapter = found.ok_or_else(|| adapter::none(name))?;
            if generation.is_some() {
                expect_generation(name, generation, Some(adapter.generation))?;
            }
            transaction
                .execute("DELETE FROM adapters WHERE generation = ?", [adapter.generation])?;
            Ok(adapter.files)
        })?;
        self.release(&removed.iter().map(|file| file.sha256).collect::<Vec<_>>());
        Ok(())
    }
}

/// Keeps other users from a folder.
#[cfg(unix)]
fn keep_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn keep_private(_: &Path) -> std::io::Result<()> {
    Ok(())
}

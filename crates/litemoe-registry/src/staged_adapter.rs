use std::fs::{self, File};
use std::path::Path;

use rusqlite::Transaction;

use crate::RegistryError;
use crate::adapter::{self, Owner, Provenance, StoredAdapter};
use crate::app;
use crate::blobs::{Blobs, CopyError, Staged, copy};
use crate::clock::UnixTime;
use crate::file_name::FileName;
use crate::json::Json;
use crate::key::random_hex;
use crate::name::AdapterName;
use crate::sha256_hash::Sha256Hash;
use crate::storage;

/// Maximum number of files of an adapter.
const MAX_FILES: usize = 256;

/// Random bytes of a tag.
const TAG_BYTES: usize = 8;

/// An adapter to be stored.
#[derive(Debug, Clone)]
pub struct NewAdapter<'a> {
    /// Whose it is.
    pub owner: &'a Owner,
    /// Its name among those of the owner.
    pub name: &'a AdapterName,
    /// Folder of its files.
    pub dir: &'a Path,
    /// What it was made from.
    pub provenance: &'a Provenance,
    /// Generation that it replaces; `None` if there is none of this name.
    pub replaces: Option<u64>,
}

/// Contents of an adapter's files, on the disk under temporary names.
#[derive(Debug)]
pub(crate) struct StagedAdapter {
    files: Vec<(FileName, Staged)>,
}

impl StagedAdapter {
    /// Copies the files of a folder.
    pub(crate) fn copy(blobs: &Blobs, dir: &Path) -> Result<Self, RegistryError> {
        let read = |reason| RegistryError::io(dir, reason);
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(read)? {
            let entry = entry.map_err(read)?;
            if !entry.file_type().map_err(read)?.is_file() {
                return Err(RegistryError::NotAFile { path: entry.path() });
            }
            let name: FileName = entry.file_name().to_string_lossy().parse()?;
            names.push(name);
            if names.len() > MAX_FILES {
                return Err(RegistryError::ManyFiles { dir: dir.to_owned(), max_files: MAX_FILES });
            }
        }
        if names.is_empty() {
            return Err(RegistryError::NoFiles { dir: dir.to_owned() });
        }
        names.sort();
        let files = names.into_iter().map(|name| {
            let path = dir.join(name.as_str());
            let mut file = File::open(&path).map_err(|reason| RegistryError::io(&path, reason))?;
            let mut upload = blobs.upload()?;
            copy(&mut file, &mut upload).map_err(|error| match error {
                CopyError::Read(reason) => RegistryError::io(&path, reason),
                CopyError::Write(reason) => RegistryError::unwritten(blobs.dir(), reason),
            })?;
            Ok((name, upload.finish()?))
        });
        Ok(Self { files: files.collect::<Result<_, RegistryError>>()? })
    }

    pub(crate) fn contents(&self) -> Vec<Sha256Hash> {
        self.files.iter().map(|(_, staged)| staged.content.sha256).collect()
    }

    /// Stores the adapter, and returns it with the contents of the one that it replaces.
    pub(crate) fn store(
        self,
        transaction: &Transaction<'_>,
        blobs: &Blobs,
        new: &NewAdapter<'_>,
        now: UnixTime,
    ) -> Result<(StoredAdapter, Vec<Sha256Hash>), RegistryError> {
        let &NewAdapter { owner, name, provenance, replaces, .. } = new;
        if let Some(app) = owner.app() {
            app::live(transaction, app)?;
        }
        let replaced = adapter::find(transaction, owner, name)?;
        expect_generation(name, replaces, replaced.as_ref().map(|replaced| replaced.generation))?;
        let created = replaced.as_ref().map_or(now, |replaced| replaced.created);
        if let Some(replaced) = &replaced {
            transaction
                .execute("DELETE FROM adapters WHERE generation = ?", [replaced.generation])?;
        }
        let generation = next(transaction, "generation")?;
        let Provenance { foundation, plan, data, metrics } = provenance;
        transaction.execute(
            "INSERT INTO adapters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                generation,
                owner.app(),
                name,
                foundation,
                plan,
                data,
                Json(metrics.clone()),
                created,
                now,
                random_hex::<TAG_BYTES>()?,
            ),
        )?;
        let mut insert = transaction.prepare("INSERT INTO adapter_files VALUES (?, ?, ?, ?)")?;
        let mut contents = Vec::new();
        for (name, staged) in self.files {
            let content = staged.content;
            insert.execute((generation, name, content.sha256, content.bytes))?;
            contents.push(staged);
        }
        if let Some(app) = owner.app() {
            storage::expect_within(transaction, app)?;
        }
        blobs.keep(contents)?;
        let stored = adapter::find(transaction, owner, name)?.ok_or_else(|| adapter::none(name))?;
        let old = replaced.into_iter().flat_map(|replaced| replaced.files);
        Ok((stored, old.map(|file| file.sha256).collect()))
    }
}

/// Checks that the generation that is there is the expected one, or that there is none if none is expected.
pub(crate) fn expect_generation(
    name: &AdapterName,
    expected: Option<u64>,
    found: Option<u64>,
) -> Result<(), RegistryError> {
    let name = || name.to_string();
    match (expected, found) {
        (None, Some(found)) => Err(RegistryError::AdapterExists { name: name(), found }),
        (Some(_), None) => Err(RegistryError::NoAdapter { name: name() }),
        (Some(expected), Some(found)) if expected != found => {
            Err(RegistryError::OtherGeneration { name: name(), expected, found })
        }
        _ => Ok(()),
    }
}

/// The next number of a counter.
pub(crate) fn next(transaction: &Transaction<'_>, counter: &str) -> Result<u64, RegistryError> {
    let sql = "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value";
    Ok(transaction.query_row(sql, [counter], |row| row.get(0))?)
}

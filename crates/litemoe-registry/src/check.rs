use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use litemoe_files::{dead_unnamed, is_unnamed};
use rusqlite::Connection;
use serde::Serialize;
use time::Date;

use crate::RegistryError;
use crate::adapter::Owner;
use crate::app::App;
use crate::blobs::{CopyError, copy};
use crate::page::Page;
use crate::registry::Registry;
use crate::sha256_hash::Sha256Hash;

/// What [`check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Number of contents that were read.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// Something in a registry that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// The database contradicts itself.
    Database {
        /// In SQLite's words.
        message: String,
    },
    /// A content that the database refers to is not there.
    Missing {
        /// Its hash.
        sha256: Sha256Hash,
        /// What refers to it.
        referrers: Vec<String>,
    },
    /// A content is not the one that was stored.
    Corrupt {
        /// The hash of what was stored.
        sha256: Sha256Hash,
        /// The hash of what is there.
        found: Sha256Hash,
        /// What refers to it.
        referrers: Vec<String>,
    },
    /// A content has another length than the database says.
    Length {
        /// Its hash.
        sha256: Sha256Hash,
        /// The length in the database.
        expected: u64,
        /// The length of the file.
        found: u64,
        /// What refers to it.
        referrers: Vec<String>,
    },
    /// A content cannot be read.
    Unreadable {
        /// Its hash.
        sha256: Sha256Hash,
        /// Why.
        reason: String,
    },
    /// Nothing refers to a content: garbage that [`Registry::collect_garbage`] removes.
    Orphan {
        /// Its hash.
        sha256: Sha256Hash,
        /// Its length.
        bytes: u64,
    },
    /// A temporary file of a process that is dead: garbage that [`Registry::open`] removes.
    Temporary {
        /// Its name in the folder of contents.
        name: String,
    },
    /// A file in the folder of contents that is none.
    Unknown {
        /// Its name.
        name: String,
    },
}

impl Finding {
    /// Whether it is garbage that costs only room.
    pub fn is_garbage(&self) -> bool {
        matches!(self, Self::Orphan { .. } | Self::Temporary { .. })
    }
}

/// Where the database refers to a content.
struct Reference {
    referrers: Vec<String>,
    bytes: BTreeSet<u64>,
}

type References = BTreeMap<Sha256Hash, Reference>;

/// Verifies the registry in a directory: the database's integrity, the hash of every content, and that what the database
/// refers to and what is there are the same. Unlike [`Registry::open`], removes nothing. Other processes may use the
/// registry meanwhile.
///
/// # Errors
/// As [`Registry::open`], also if the database is too damaged to be read.
pub fn check(dir: &Path) -> Result<Checked, RegistryError> {
    let registry = Registry::unswept(dir)?;
    let contents = registry.blobs.dir();
    let read = |reason| RegistryError::io(contents, reason);
    let mut checked = Checked::default();
    // One state of both, while nothing is written.
    let (references, names) = registry.database.write(|transaction| {
        checked.findings.extend(integrity(transaction)?);
        Ok((references(transaction)?, names(contents).map_err(read)?))
    })?;
    checked.findings.extend(registry.unreadable());
    for name in dead_unnamed(contents).map_err(read)? {
        checked.findings.push(Finding::Temporary { name });
    }
    let mut found = BTreeSet::new();
    for name in names {
        if is_unnamed(contents, name.as_ref()) {
            continue;
        }
        let Ok(sha256) = name.parse() else {
            checked.findings.push(Finding::Unknown { name });
            continue;
        };
        found.insert(sha256);
        checked.content(&registry, sha256, references.get(&sha256))?;
    }
    for (sha256, reference) in references.into_iter().filter(|(sha256, _)| !found.contains(sha256))
    {
        checked.findings.push(Finding::Missing { sha256, referrers: reference.referrers });
    }
    Ok(checked)
}

impl Checked {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Checks a content that was there.
    fn content(
        &mut self,
        registry: &Registry,
        sha256: Sha256Hash,
        reference: Option<&Reference>,
    ) -> Result<(), RegistryError> {
        let read = File::open(registry.blobs.path(sha256))
            .map_err(CopyError::Read)
            .and_then(|mut file| copy(&mut file, &mut io::sink()));
        let content = match read {
            Ok(content) => content,
            Err(CopyError::Read(error) | CopyError::Write(error)) => {
                // Removed since, with what referred to it?
                let is_gone = error.kind() == ErrorKind::NotFound;
                let current = registry.database.read(references)?;
                let finding = match current.into_iter().find(|(other, _)| *other == sha256) {
                    None if is_gone => None,
                    Some((_, Reference { referrers, .. })) if is_gone => {
                        Some(Finding::Missing { sha256, referrers })
                    }
                    _ => Some(Finding::Unreadable { sha256, reason: error.to_string() }),
                };
                self.findings.extend(finding);
                return Ok(());
            }
        };
        self.contents += 1;
        self.bytes += content.bytes;
        let referrers = || reference.map_or_else(Vec::new, |found| found.referrers.clone());
        if content.sha256 != sha256 {
            let finding =
                Finding::Corrupt { sha256, found: content.sha256, referrers: referrers() };
            self.findings.push(finding);
        }
        let Some(reference) = reference else {
            self.findings.push(Finding::Orphan { sha256, bytes: content.bytes });
            return Ok(());
        };
        if content.sha256 == sha256 {
            let others = reference.bytes.iter().filter(|&&expected| expected != content.bytes);
            self.findings.extend(others.map(|&expected| Finding::Length {
                sha256,
                expected,
                found: content.bytes,
                referrers: referrers(),
            }));
        }
        Ok(())
    }
}

impl Registry {
    /// The first row that has not the form in which rows are written.
    fn unreadable(&self) -> Option<Finding> {
        let read = || -> Result<(), RegistryError> {
            self.adapters(&Owner::Shared)?;
            for App { name, .. } in self.apps()? {
                self.keys(&name)?;
                self.usage(&name, Date::MIN..=Date::MAX)?;
                self.adapters(&Owner::App(name.clone()))?;
                self.files(&name, Page::default())?;
                for job in self.jobs(&name, Page::default())? {
                    self.job_events(&name, &job.id, 0, u32::MAX)?;
                }
            }
            Ok(())
        };
        read().err().map(|error| Finding::Database { message: error.to_string() })
    }
}

fn integrity(connection: &Connection) -> Result<Vec<Finding>, RegistryError> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let messages = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
    messages.retain(|message| message != "ok");
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let dangling = statement.query_map([], |row| {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        Ok(format!("a row of {table} refers to a row of {parent} that is not there"))
    })?;
    messages.extend(dangling.collect::<Result<Vec<_>, _>>()?);
    Ok(messages.into_iter().map(|message| Finding::Database { message }).collect())
}

fn references(connection: &Connection) -> Result<References, RegistryError> {
    let sql = "SELECT sha256, bytes, \
                   'adapter ' || ifnull(owner || '/', '') || adapters.name || ', ' || adapter_files.name \
               FROM adapter_files JOIN adapters USING (generation) \
               UNION ALL SELECT sha256, bytes, 'file ' || app || '/' || id FROM files";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut references = References::new();
    while let Some(row) = rows.next()? {
        let reference = references
            .entry(row.get(0)?)
            .or_insert_with(|| Reference { referrers: Vec::new(), bytes: BTreeSet::new() });
        reference.bytes.insert(row.get(1)?);
        reference.referrers.push(row.get(2)?);
    }
    Ok(references)
}

/// Names in a folder, in order.
fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let name =
        |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    fs::read_dir(dir)?.map(name).collect()
}

//! Records of finished stages: a stage is finished while program, work, inputs and outputs are as recorded.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use litemoe_core::sha256_hex;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::job::{Job, StageWork};
use crate::input_files::InputFiles;
use crate::{artefact, model};

/// Record of a finished stage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<R> {
    /// Digest of program, work and inputs.
    pub(super) key: String,
    /// Digests of the outputs.
    pub(super) outputs: BTreeMap<PathBuf, String>,
    /// Wall-clock time of the process, in seconds.
    pub(super) seconds: f64,
    pub(super) report: R,
}

/// A stage: work in a process of its own.
pub(super) struct Stage<W> {
    pub(super) name: String,
    /// Description shown to the user.
    pub(super) about: &'static str,
    pub(super) work: W,
    pub(super) inputs: Vec<PathBuf>,
    pub(super) outputs: Vec<PathBuf>,
    /// Checkpoint that an interrupted run leaves.
    pub(super) checkpoint: Option<PathBuf>,
}

impl<W: StageWork> Stage<W> {
    /// The same stage, whatever its work.
    pub(super) fn of_any_work(self) -> Stage<Job> {
        let Self { name, about, work, inputs, outputs, checkpoint } = self;
        Stage { name, about, work: work.into(), inputs, outputs, checkpoint }
    }
}

/// This program's file and its digest.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    digest: String,
}

impl Program {
    pub(super) fn this() -> anyhow::Result<Self> {
        let path = std::env::current_exe().context("cannot find this program's own file")?;
        let digest = digest(&path)?;
        Ok(Self { path, digest })
    }
}

/// Records in a directory, which need not exist.
pub(super) struct Records {
    pub(super) program: Program,
    pub(super) dir: PathBuf,
    /// Whether no record counts.
    pub(super) force: bool,
    /// Digests of paths and the files that they are of; dropped when a stage writes the path.
    digests: RefCell<BTreeMap<PathBuf, (String, InputFiles)>>,
}

impl Records {
    pub(super) fn new(program: &Program, dir: PathBuf, force: bool) -> Self {
        Self { program: program.clone(), dir, force, digests: RefCell::default() }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// Whether a stage need not run.
    pub(super) fn is_finished(&self, stage: &Stage<Job>) -> bool {
        // What the stage reported is not read, so its checksum is not checked.
        let record = artefact::read_plain::<Record<IgnoredAny>>(&self.file(&stage.name));
        let key = self.key(stage);
        record.is_ok_and(|record| key.is_ok_and(|key| self.is_valid(&record, stage, &key)))
    }

    /// Digest of program, work and inputs.
    pub(super) fn key(&self, stage: &Stage<Job>) -> anyhow::Result<String> {
        let mut text = format!("{} {}\n", env!("CARGO_PKG_VERSION"), self.program.digest);
        text += &serde_json::to_string(&stage.work)?;
        for input in &stage.inputs {
            text += &format!("\n{} {}", input.display(), self.digest(input)?);
        }
        Ok(sha256_hex(text.as_bytes()))
    }

    /// The record of a stage, if it is valid.
    pub(super) fn valid<R: Serialize + DeserializeOwned>(
        &self,
        stage: &Stage<Job>,
        key: &str,
    ) -> Option<Record<R>> {
        let record: Record<R> = artefact::read(&self.file(&stage.name)).ok()?;
        self.is_valid(&record, stage, key).then_some(record)
    }

    fn is_valid<R>(&self, record: &Record<R>, stage: &Stage<Job>, key: &str) -> bool {
        let is_as_written =
            |(path, then): (&PathBuf, &String)| self.digest(path).is_ok_and(|now| now == *then);
        let has = |path: &PathBuf| record.outputs.contains_key(path) || !path.exists();
        !self.force
            && record.key == key
            && record.outputs.iter().all(is_as_written)
            && stage.outputs.iter().all(has)
    }

    /// Digests of a stage's outputs, as it has just written them.
    pub(super) fn written(&self, outputs: &[PathBuf]) -> anyhow::Result<BTreeMap<PathBuf, String>> {
        let mut written = BTreeMap::new();
        for path in outputs {
            self.digests.borrow_mut().remove(path);
            if path.exists() {
                written.insert(path.clone(), self.digest(path)?);
            }
        }
        Ok(written)
    }

    fn digest(&self, path: &Path) -> anyhow::Result<String> {
        if let Some((known, files)) = self.digests.borrow().get(path) {
            files.expect_unchanged()?;
            return Ok(known.clone());
        }
        let files = InputFiles::of(&[path]);
        let found = model_digest(path).map_or_else(|| digest(path), Ok)?;
        self.digests.borrow_mut().insert(path.to_owned(), (found.clone(), files));
        Ok(found)
    }

    /// Checks that inputs are those that the key of their stage is of.
    pub(super) fn expect_unchanged(&self, inputs: &[PathBuf]) -> anyhow::Result<()> {
        let digests = self.digests.borrow();
        let mut known = inputs.iter().filter_map(|input| digests.get(input));
        Ok(known.try_for_each(|(_, files)| files.expect_unchanged())?)
    }
}

/// Digest of a foundation: its fingerprint and the files that the fingerprint does not cover. So the weights are hashed
/// once for this process and the stages. `None` for anything else, such as a proxy, whose weight file has metadata that
/// the fingerprint does not cover.
fn model_digest(dir: &Path) -> Option<String> {
    if !dir.is_dir() {
        return None;
    }
    let checkpoint =
        model::open_unchecked(dir).ok().filter(|checkpoint| checkpoint.origin().is_none())?;
    let files = fs::read_dir(dir).ok()?.map(|entry| Some(entry.ok()?.path()));
    let mut files = files.collect::<Option<Vec<_>>>()?;
    files.retain(|path| path.extension().is_none_or(|extension| extension != "safetensors"));
    files.sort();
    let mut text = format!("{}\n", checkpoint.fingerprint());
    for path in files {
        text += &format!("{} {}\n", digest(&path).ok()?, path.display());
    }
    Some(sha256_hex(text.as_bytes()))
}

/// SHA-256 of a file, or of the names and contents of a directory's files.
fn digest(path: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", path.display());
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(context)?;
        let mut names =
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        let lines = names.iter().map(|name| Ok(format!("{} {}\n", digest(name)?, name.display())));
        return Ok(sha256_hex(lines.collect::<anyhow::Result<String>>()?.as_bytes()));
    }
    artefact::sha256(path)
}

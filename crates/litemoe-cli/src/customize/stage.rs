//! A stage of the loop: one command in a process of its own, so that its peak memory is its own, and skipped
//! when nothing it depends on has changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use litemoe_core::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{artefact, output};

/// What is remembered of a stage that ran.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Digest of program, arguments and inputs.
    key: String,
    /// Digests of what it wrote.
    outputs: BTreeMap<PathBuf, String>,
    /// What it printed.
    result: Value,
}

/// One stage to run.
pub(crate) struct Stage<'a> {
    pub(crate) name: &'a str,
    /// What the user is told it does.
    pub(crate) about: &'a str,
    pub(crate) args: Vec<String>,
    pub(crate) inputs: Vec<&'a Path>,
    pub(crate) outputs: Vec<&'a Path>,
    /// What an interrupted run leaves for `--resume`.
    pub(crate) resumes: Option<&'a Path>,
}

/// Runs stages and remembers them in a folder.
pub(crate) struct Runner {
    program: PathBuf,
    program_digest: String,
    records: PathBuf,
    force: bool,
    /// Keeps other processes out of the folder. Every stage is given it too, so that one that outlives this process keeps them
    /// out until it ends.
    lock: File,
    /// Digests of what no stage has written since they were taken.
    digests: RefCell<BTreeMap<PathBuf, String>>,
}

impl Runner {
    /// A runner that keeps its records in `records`.
    pub(crate) fn new(records: PathBuf, force: bool) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let program_digest = digest(&program)?;
        fs::create_dir_all(&records)
            .with_context(|| format!("cannot create the folder {}", records.display()))?;
        let lock = lock(&records)?;
        Ok(Self { program, program_digest, records, force, lock, digests: RefCell::default() })
    }

    /// Runs a stage, or takes what it printed last time; says which.
    pub(crate) fn run(&self, stage: &Stage<'_>) -> anyhow::Result<Value> {
        let path = self.records.join(format!("{}.json", stage.name));
        let key = self.key(stage)?;
        if let Some(record) = self.valid_record(&path, &key, stage) {
            output::note(&format!("{:<13} unchanged, skipped", stage.name));
            return Ok(record.result);
        }
        let _ = fs::remove_file(&path);
        output::note(&format!("{:<13} {}", stage.name, stage.about));
        let result = self.spawn(stage, &key)?;
        for path in &stage.outputs {
            self.digests.borrow_mut().remove(*path);
        }
        let outputs = stage.outputs.iter().filter(|path| path.exists());
        let outputs = outputs.map(|path| Ok((path.to_path_buf(), digest(path)?)));
        let outputs = outputs.collect::<anyhow::Result<_>>()?;
        artefact::write(&path, &Record { key, outputs, result: result.clone() })?;
        Ok(result)
    }

    fn key(&self, stage: &Stage<'_>) -> anyhow::Result<String> {
        let mut text = format!("{} {}\n", env!("CARGO_PKG_VERSION"), self.program_digest);
        text += &stage.args.join("\n");
        for input in &stage.inputs {
            text += &format!("\n{} {}", input.display(), self.digest(input)?);
        }
        Ok(sha256_hex(text.as_bytes()))
    }

    fn digest(&self, path: &Path) -> anyhow::Result<String> {
        if let Some(known) = self.digests.borrow().get(path) {
            return Ok(known.clone());
        }
        let found = digest(path)?;
        self.digests.borrow_mut().insert(path.to_owned(), found.clone());
        Ok(found)
    }

    fn valid_record(&self, path: &Path, key: &str, stage: &Stage<'_>) -> Option<Record> {
        if self.force || !path.exists() {
            return None;
        }
        let record: Record = artefact::read(path).ok()?;
        let whole =
            record.outputs.iter().all(|(path, then)| digest(path).is_ok_and(|now| now == *then));
        let all =
            stage.outputs.iter().all(|path| record.outputs.contains_key(*path) || !path.exists());
        (record.key == key && whole && all).then_some(record)
    }

    fn spawn(&self, stage: &Stage<'_>, key: &str) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        let begun = self.records.join(format!("{}.begun", stage.name));
        let interrupted = fs::read_to_string(&begun).is_ok_and(|then| then == key);
        if interrupted && !self.force && stage.resumes.is_some_and(Path::exists) {
            command.arg(&stage.args[0]).arg("--resume").args(&stage.args[1..]);
        } else {
            command.args(&stage.args);
        }
        if stage.resumes.is_some() {
            fs::write(&begun, key).with_context(|| format!("cannot write {}", begun.display()))?;
        }
        command.arg("--json").stdin(self.lock.try_clone()?).stdout(Stdio::piped());
        let child =
            command.spawn().with_context(|| format!("cannot start the stage {}", stage.name))?;
        let done = child.wait_with_output()?;
        if !done.status.success() {
            bail!("the stage {} failed ({})", stage.name, done.status);
        }
        let _ = fs::remove_file(&begun); // where there is one
        serde_json::from_slice(&done.stdout)
            .with_context(|| format!("the stage {} did not print JSON", stage.name))
    }
}

fn lock(records: &Path) -> anyhow::Result<File> {
    let path = records.join("lock");
    let cannot = || format!("cannot lock {}", path.display());
    let file = File::create(&path).with_context(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let dir = records.parent().unwrap_or(records);
            bail!("another `litemoe customize` is at work in {}", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
    }
}

/// SHA-256 of a file, or of a folder's files and their names.
pub(crate) fn digest(path: &Path) -> anyhow::Result<String> {
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

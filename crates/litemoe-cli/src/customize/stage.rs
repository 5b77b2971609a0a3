//! Stages of the loop: each runs one command in its own process, so that its peak memory is measured alone, and is
//! skipped if nothing it depends on has changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use litemoe_files::{check_target_file, write_file};
use serde::de::DeserializeOwned;

use super::job::{Job, StageWork};
use super::records::{Record, Records, Stage};
use crate::{artefact, fingerprints, output};

/// Runs stages and keeps their records.
pub(super) struct Runner {
    records: Records,
    /// File lock of the records. Every stage inherits it, so a stage that outlives this process holds the lock until it
    /// ends.
    lock: File,
    seconds: RefCell<BTreeMap<String, f64>>,
}

impl Runner {
    /// Runner that creates the directory of its records.
    pub(super) fn new(records: Records) -> anyhow::Result<Self> {
        fs::create_dir_all(&records.dir)
            .with_context(|| format!("cannot create the folder {}", records.dir.display()))?;
        let lock = lock(&records.dir)?;
        Ok(Self { records, lock, seconds: RefCell::default() })
    }

    /// Runs a stage, or returns the recorded report if nothing has changed, and tells the user which.
    pub(super) fn run<W: StageWork>(&self, stage: Stage<W>) -> anyhow::Result<W::Report> {
        let stage = stage.of_any_work();
        let (name, records) = (&*stage.name, &self.records);
        let key = records.key(&stage)?;
        if let Some(Record { report, seconds, .. }) = records.valid(&stage, &key) {
            output::note(&format!("{name:<13} unchanged, skipped"));
            self.seconds.borrow_mut().insert(name.to_owned(), seconds);
            return Ok(report);
        }
        let record = records.file(name);
        let _ = fs::remove_file(&record);
        output::note(&format!("{name:<13} {}", stage.about));
        let start = Instant::now();
        let report: W::Report = self.spawn(name, &stage.work, &key, stage.checkpoint.as_deref())?;
        let seconds = start.elapsed().as_secs_f64();
        let outputs = records.written(&stage.outputs)?;
        artefact::write(&record, &Record { key, outputs, seconds, report: &report })?;
        self.seconds.borrow_mut().insert(name.to_owned(), seconds);
        Ok(report)
    }

    /// Wall-clock seconds of every stage; of the earlier run for a skipped one.
    pub(super) fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.borrow().clone()
    }

    fn spawn<R: DeserializeOwned>(
        &self,
        name: &str,
        job: &Job,
        key: &str,
        checkpoint: Option<&Path>,
    ) -> anyhow::Result<R> {
        let [begun, job_file, report] =
            ["begun", "job", "report"].map(|kind| self.records.dir.join(format!("{name}.{kind}")));
        artefact::write(&job_file, job)?;
        let mut command = Command::new(&self.records.program.path);
        command.arg("stage");
        command.env("RAYON_NUM_THREADS", rayon::current_num_threads().to_string());
        if fingerprints::is_verified() {
            command.arg("--verify");
        }
        if output::is_quiet() {
            command.arg("--quiet");
        }
        let interrupted = fs::read_to_string(&begun).is_ok_and(|then| then == key);
        if interrupted && !self.records.force && checkpoint.is_some_and(Path::exists) {
            command.arg("--resume");
        }
        if checkpoint.is_some() {
            write_file(&begun, |file| file.write_all(key.as_bytes()))
                .with_context(|| format!("cannot write {}", begun.display()))?;
        }
        command.arg("--").arg(&job_file).arg(&report).stdin(self.lock.try_clone()?);
        let status = command.status().with_context(|| format!("cannot start the stage {name}"))?;
        if !status.success() {
            bail!("the stage {name} failed ({status})");
        }
        let done = artefact::read(&report)?;
        for file in [begun, job_file, report] {
            let _ = fs::remove_file(&file); // it may not exist
        }
        Ok(done)
    }
}

fn lock(records: &Path) -> anyhow::Result<File> {
    let path = records.join("lock");
    let cannot = || format!("cannot lock {}", path.display());
    check_target_file(&path).with_context(cannot)?;
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let dir = records.parent().unwrap_or(records);
            bail!("another `litemoe customize` is at work in {}", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
    }
}

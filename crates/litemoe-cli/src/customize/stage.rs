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
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::job::{Job, StageWork};
use super::records::{Record, Records, Stage};
use super::stage_files::StageFiles;
use crate::events::{self, Event, Source};
use crate::{artefact, fingerprints, log, output, progress};

/// Runs stages and keeps their records.
pub(super) struct Runner {
    app: String,
    records: Records,
    /// File lock of the records. Every stage inherits it, so a stage that outlives this process holds the lock until it
    /// ends.
    lock: File,
    seconds: RefCell<BTreeMap<String, f64>>,
}

impl Runner {
    /// Runner of an app's stages that creates the directory of its records.
    pub(super) fn new(app: &str, records: Records) -> anyhow::Result<Self> {
        fs::create_dir_all(&records.dir)
            .with_context(|| format!("cannot create the folder {}", records.dir.display()))?;
        let lock = lock(&records.dir)?;
        Ok(Self { app: app.to_owned(), records, lock, seconds: RefCell::default() })
    }

    /// Runs a stage, or returns the recorded report if nothing has changed, and tells the user which.
    pub(super) fn run<W: StageWork>(&self, stage: Stage<W>) -> anyhow::Result<W::Report> {
        let stage = stage.of_any_work();
        let (name, records) = (&*stage.name, &self.records);
        let key = records.key(&stage)?;
        let files = StageFiles::of(&records.dir, name);
        if let Some(Record { report, seconds, .. }) = records.valid(&stage, &key) {
            let end = Event::StageEnd { skipped: true, elapsed: seconds };
            self.tell(name, "unchanged, skipped", &end);
            files.remove(); // if its parent ended right after it was recorded
            self.seconds.borrow_mut().insert(name.to_owned(), seconds);
            return Ok(report);
        }
        let record = records.file(name);
        let _ = fs::remove_file(&record);
        let finished = if records.force { None } else { files.finished(&key, &stage.outputs) };
        let skipped = finished.is_some();
        let (report, seconds): (W::Report, f64) = match finished {
            Some((report, seconds)) => {
                let end = Event::StageEnd { skipped, elapsed: seconds };
                self.tell(name, "finished, not run again", &end);
                (report, seconds)
            }
            None => {
                let about = stage.about;
                self.tell(name, about, &Event::StageBegin { about });
                let start = Instant::now();
                let report = self.spawn(name, &stage.work, &key, stage.checkpoint.as_deref())?;
                (report, start.elapsed().as_secs_f64())
            }
        };
        if let Err(error) = records.expect_unchanged(&stage.inputs) {
            files.remove(); // the key is not that of what the stage read
            return Err(error);
        }
        let outputs = records.written(&stage.outputs)?;
        artefact::write_checksummed(&record, &Record { key, outputs, seconds, report: &report })?;
        files.remove();
        self.seconds.borrow_mut().insert(name.to_owned(), seconds);
        if events::are_on() && !skipped {
            let end = Event::StageEnd { skipped, elapsed: seconds };
            events::emit_from(&self.source(name), &end);
        }
        Ok(report)
    }

    fn source(&self, stage: &str) -> Source {
        Source { app: Some(self.app.clone()), stage: stage.to_owned() }
    }

    /// Tells the user about a stage: an event, or a note.
    fn tell(&self, stage: &str, text: &str, event: &Event<'_>) {
        match events::are_on() {
            true => events::emit_from(&self.source(stage), event),
            false => output::note(&format!("{stage:<13} {text}")),
        }
    }

    /// Wall-clock seconds of every stage; of the earlier run for a skipped one.
    pub(super) fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.borrow().clone()
    }

    fn spawn<R: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        job: &Job,
        key: &str,
        checkpoint: Option<&Path>,
    ) -> anyhow::Result<R> {
        let StageFiles { begun, job: job_file, report } = StageFiles::of(&self.records.dir, name);
        artefact::write(&job_file, job)?;
        let mut command = Command::new(&self.records.program.path);
        command.arg("stage").arg("--parent").arg(std::process::id().to_string());
        command.env("RAYON_NUM_THREADS", rayon::current_num_threads().to_string());
        if fingerprints::is_verified() {
            command.arg("--verify");
        }
        if output::is_quiet() {
            command.arg("--quiet");
        }
        command.args(std::iter::repeat_n("-v", log::verbosity().into()));
        command.arg("--progress").arg(progress::mode_name());
        command.arg("--app").arg(&self.app).arg("--stage").arg(name);
        let interrupted = fs::read_to_string(&begun).is_ok_and(|then| then == key);
        if interrupted && !self.records.force && checkpoint.is_some_and(Path::exists) {
            command.arg("--resume");
        }
        let _ = fs::remove_file(&report); // it may not exist
        write_file(&begun, |file| file.write_all(key.as_bytes()))
            .with_context(|| format!("cannot write {}", begun.display()))?;
        command.arg("--").arg(&job_file).arg(&report).stdin(self.lock.try_clone()?);
        let status = command.status().with_context(|| format!("cannot start the stage {name}"))?;
        if !status.success() {
            bail!("the stage {name} failed ({status})");
        }
        artefact::read(&report)
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

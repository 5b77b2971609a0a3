//! Stages of the loop: each runs one command in its own process, so that its peak memory is measured alone, and is
//! skipped if nothing it depends on has changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, bail};
use litemoe_core::sha256_hex;
use litemoe_files::{check_target_file, write_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::job::{Job, StageWork};
use crate::events::{self, Event, Source};
use crate::input_files::InputFiles;
use crate::{artefact, fingerprints, log, model, output, progress};

/// Record of a finished stage.
#[derive(Debug, Serialize, Deserialize)]
struct Record<R> {
    /// Digest of program, work and inputs.
    key: String,
    /// Digests of the outputs.
    outputs: BTreeMap<PathBuf, String>,
    /// Wall-clock time of the process, in seconds.
    seconds: f64,
    report: R,
}

/// A stage to run.
pub(crate) struct Stage<'a, W> {
    pub(crate) name: &'a str,
    /// Description shown to the user.
    pub(crate) about: &'a str,
    pub(crate) work: W,
    pub(crate) inputs: Vec<&'a Path>,
    pub(crate) outputs: Vec<&'a Path>,
    /// Checkpoint that an interrupted run leaves.
    pub(crate) checkpoint: Option<&'a Path>,
}

/// Runs stages and keeps their records in a directory.
pub(crate) struct Runner {
    app: String,
    program: PathBuf,
    program_digest: String,
    records: PathBuf,
    force: bool,
    /// File lock of the directory. Every stage inherits it, so a stage that outlives this process holds the lock until
    /// it ends.
    lock: File,
    /// Digests of paths and the files that they are of; dropped when a stage writes the path.
    digests: RefCell<BTreeMap<PathBuf, (String, InputFiles)>>,
    seconds: RefCell<BTreeMap<String, f64>>,
}

impl Runner {
    /// Runner of an app's stages with its records in `records`.
    pub(crate) fn new(app: &str, records: PathBuf, force: bool) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let program_digest = digest(&program)?;
        fs::create_dir_all(&records)
            .with_context(|| format!("cannot create the folder {}", records.display()))?;
        let lock = lock(&records)?;
        let (digests, seconds) = Default::default();
        let app = app.to_owned();
        Ok(Self { app, program, program_digest, records, force, lock, digests, seconds })
    }

    /// Runs a stage, or returns the recorded report if nothing has changed, and tells the user which.
    pub(crate) fn run<W: StageWork>(&self, stage: Stage<'_, W>) -> anyhow::Result<W::Report> {
        let Stage { name, about, work, inputs, outputs, checkpoint } = stage;
        let record = self.records.join(format!("{name}.json"));
        let job: Job = work.into();
        let key = self.key(&job, &inputs)?;
        let files = StageFiles::of(&self.records, name);
        if let Some(Record { report, seconds, .. }) = self.valid_record(&record, &key, &outputs) {
            self.tell(
                name,
                "unchanged, skipped",
                &Event::StageEnd { skipped: true, elapsed: seconds },
            );
            files.remove(); // if its parent ended right after it was recorded
            self.seconds.borrow_mut().insert(name.to_owned(), seconds);
            return Ok(report);
        }
        let _ = fs::remove_file(&record);
        let finished = if self.force { None } else { files.finished(&key, &outputs) };
        let skipped = finished.is_some();
        let (report, seconds): (W::Report, f64) = match finished {
            Some((report, seconds)) => {
                let end = Event::StageEnd { skipped, elapsed: seconds };
                self.tell(name, "finished, not run again", &end);
                (report, seconds)
            }
            None => {
                self.tell(name, about, &Event::StageBegin { about });
                let start = Instant::now();
                let report = self.spawn(name, &job, &key, checkpoint)?;
                (report, start.elapsed().as_secs_f64())
            }
        };
        self.expect_unchanged(&inputs)?;
        let mut written = BTreeMap::new();
        for path in outputs {
            self.digests.borrow_mut().remove(path);
            if path.exists() {
                written.insert(path.to_owned(), self.digest(path)?);
            }
        }
        let outputs = written;
        artefact::write_sealed(&record, &Record { key, outputs, seconds, report: &report })?;
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
    pub(crate) fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.borrow().clone()
    }

    fn key(&self, job: &Job, inputs: &[&Path]) -> anyhow::Result<String> {
        let mut text = format!("{} {}\n", env!("CARGO_PKG_VERSION"), self.program_digest);
        text += &serde_json::to_string(job)?;
        for input in inputs {
            text += &format!("\n{} {}", input.display(), self.digest(input)?);
        }
        Ok(sha256_hex(text.as_bytes()))
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
    fn expect_unchanged(&self, inputs: &[&Path]) -> anyhow::Result<()> {
        let digests = self.digests.borrow();
        let mut known = inputs.iter().filter_map(|input| digests.get(*input));
        Ok(known.try_for_each(|(_, files)| files.expect_unchanged())?)
    }

    fn valid_record<R: Serialize + DeserializeOwned>(
        &self,
        path: &Path,
        key: &str,
        outputs: &[&Path],
    ) -> Option<Record<R>> {
        if self.force || !path.exists() {
            return None;
        }
        let record: Record<R> = artefact::read(path).ok()?;
        let whole = record
            .outputs
            .iter()
            .all(|(path, then)| self.digest(path).is_ok_and(|now| now == *then));
        let all = outputs.iter().all(|path| record.outputs.contains_key(*path) || !path.exists());
        (record.key == key && whole && all).then_some(record)
    }

    fn spawn<R: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        job: &Job,
        key: &str,
        checkpoint: Option<&Path>,
    ) -> anyhow::Result<R> {
        let StageFiles { begun, job: job_file, report } = StageFiles::of(&self.records, name);
        artefact::write(&job_file, job)?;
        let mut command = Command::new(&self.program);
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
        if interrupted && !self.force && checkpoint.is_some_and(Path::exists) {
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

/// Files of a stage that is running, or was when its parent ended.
struct StageFiles {
    /// Key of the stage, written before it begins.
    begun: PathBuf,
    /// Its work.
    job: PathBuf,
    /// Its report, which it writes after its outputs.
    report: PathBuf,
}

impl StageFiles {
    fn of(records: &Path, name: &str) -> Self {
        let file = |kind: &str| records.join(format!("{name}.{kind}"));
        Self { begun: file("begun"), job: file("job"), report: file("report") }
    }

    /// Report and wall-clock seconds of a stage that finished before its parent could record it. `None` if it did not
    /// finish, if its inputs are others now, or if an output is not there or has changed since.
    fn finished<R: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        outputs: &[&Path],
    ) -> Option<(R, f64)> {
        if fs::read_to_string(&self.begun).ok()? != key {
            return None;
        }
        let report = artefact::read(&self.report).ok()?;
        let [begun, ended] = [&self.begun, &self.report].map(|file| modified(file));
        let (begun, ended) = (begun?, ended?);
        let is_older = |output: &&Path| last_change(output).is_some_and(|time| time <= ended);
        let seconds = ended.duration_since(begun).ok()?.as_secs_f64();
        outputs.iter().all(is_older).then_some((report, seconds))
    }

    fn remove(&self) {
        for file in [&self.begun, &self.job, &self.report] {
            let _ = fs::remove_file(file); // it may not exist
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The last change of a file, or of a directory and its files; `None` if there is none.
fn last_change(path: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| modified(&file.path())).chain(modified(path)).max()
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

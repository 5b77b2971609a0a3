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
            // Nothing else is read, whatever the record names.
            && record.outputs.keys().all(|path| stage.outputs.contains(path))
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

#[cfg(test)]
mod tests {
    use litemoe_fixtures::fuzz::{Bound, fuzz_json};
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::extract::ExtractArgs;
    use crate::commands::plan::PlanCommand;
    use crate::commands::tune::TuneCommand;
    use crate::work;

    /// Bound of reading a record, and of the digests of the stage's files.
    const RECORD: Bound = Bound { fixed: 1 << 21, ..artefact::BOUND };

    fn with_defaults<A: clap::Args>(options: &[&str], positional: &[&str]) -> A {
        let options: Vec<&Path> = options.iter().map(Path::new).collect();
        let positional: Vec<&Path> = positional.iter().map(Path::new).collect();
        work::with_defaults(&options, &positional).expect("arguments")
    }

    /// A record with a report, without a checksum and with one.
    #[test]
    fn fuzzed_records_count_only_with_key_and_outputs() {
        let dir = tempfile::tempdir().expect("a folder");
        let [input, output, other] = ["in", "out", "other"].map(|name| dir.path().join(name));
        for file in [&input, &output, &other] {
            fs::write(file, file.file_name().unwrap_or_default().as_encoded_bytes())
                .expect("written");
        }
        let program = Program { path: PathBuf::new(), digest: "a program".to_owned() };
        let records = Records::new(&program, dir.path().to_owned(), false);
        let plan: PlanCommand = with_defaults(&[], &["model", "scores.json"]);
        let stage = Stage {
            name: "plan".to_owned(),
            about: "",
            work: Job::from(plan),
            inputs: vec![input],
            outputs: vec![output.clone()],
            checkpoint: None,
        };
        let key = records.key(&stage).expect("a key");
        let outputs = records.written(&[output]).expect("digests");
        let report = json!({ "plan": "plan.json", "layers": [[1, 2.5], null] });
        let record = Record { key: key.clone(), outputs: outputs.clone(), seconds: 1.5, report };
        let file = records.file("plan");
        artefact::write_checksummed(&file, &record).expect("written");
        assert!(records.is_finished(&stage));
        let unchecked = serde_json::to_vec(&record).expect("JSON");
        // As it is, but no output of the stage.
        let digest = records.digest(&other).expect("a digest");
        let more = outputs.clone().into_iter().chain([(other, digest)]).collect();
        let more = Record { key: key.clone(), outputs: more, seconds: 1.5, report: () };
        fs::write(&file, serde_json::to_vec(&more).expect("JSON")).expect("written");
        assert!(!records.is_finished(&stage));
        artefact::write_checksummed(&file, &record).expect("written");
        let documents = [fs::read(&file).expect("a record"), unchecked];
        let (mut finished, mut valid) = ([0; 2], [0; 2]);
        fuzz_json(&documents, |from, document| {
            fs::write(&file, document).expect("written");
            let mut found = None::<Record<Value>>;
            let allocated = allocation_counter::measure(|| found = records.valid(&stage, &key));
            // The report is kept as JSON.
            Bound { per_value: 400, ..RECORD }.check(document, allocated.bytes_max);
            if let Some(found) = found {
                valid[from] += 1;
                assert_eq!(found.key, key);
                let is_known =
                    |(path, digest): (&PathBuf, &String)| outputs.get(path) == Some(digest);
                assert!(found.outputs.iter().all(is_known) && found.seconds.is_finite());
                // What nothing uses may be of bytes that are no text.
                let json = serde_json::from_slice::<Value>(document);
                let is_checked = json.is_ok_and(|json| json.get("sha256").is_some());
                assert!(!is_checked || found.report == record.report);
            }
            let mut is_finished = false;
            let allocated =
                allocation_counter::measure(|| is_finished = records.is_finished(&stage));
            RECORD.check(document, allocated.bytes_max);
            finished[from] += usize::from(is_finished);
        });
        assert!(valid.iter().chain(&finished).all(|&n| n > 0), "{valid:?} {finished:?}");
    }

    #[test]
    fn fuzzed_jobs() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("stage.job");
        let plan: PlanCommand = with_defaults(&[], &["model", "scores.json"]);
        let extract: ExtractArgs =
            with_defaults(&["--refit", "full", "--data", "rows.jsonl"], &["model", "plan.json"]);
        let tune: TuneCommand =
            with_defaults(&["--validation", "rows.jsonl"], &["proxy", "rows.jsonl"]);
        let documents = [Job::from(plan), extract.into(), tune.into()];
        let documents = documents.map(|job| serde_json::to_vec(&job).expect("JSON"));
        let mut read = [0; 3];
        fuzz_json(&documents, |from, document| {
            fs::write(&file, document).expect("written");
            let mut job = None;
            let allocated = allocation_counter::measure(|| job = artefact::read::<Job>(&file).ok());
            Bound { per_value: 400, ..artefact::BOUND }.check(document, allocated.bytes_max);
            let Some(job) = job else { return };
            read[from] += 1;
            let json = serde_json::to_vec(&job).expect("JSON");
            let again: Job = serde_json::from_slice(&json).expect("a job");
            assert_eq!(serde_json::to_vec(&again).expect("JSON"), json);
        });
        assert!(read.iter().all(|&n| n > 0), "{read:?}");
    }
}

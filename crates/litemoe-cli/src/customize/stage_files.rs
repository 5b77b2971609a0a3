//! Files of a stage that is running, or was when its parent ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::artefact;

/// Files of a stage that is running, or was when its parent ended.
pub(super) struct StageFiles {
    /// Key of the stage, written before it begins.
    pub(super) begun: PathBuf,
    /// Its work.
    pub(super) job: PathBuf,
    /// Its report, which it writes after its outputs.
    pub(super) report: PathBuf,
}

impl StageFiles {
    pub(super) fn of(records: &Path, name: &str) -> Self {
        let file = |kind: &str| records.join(format!("{name}.{kind}"));
        Self { begun: file("begun"), job: file("job"), report: file("report") }
    }

    /// Report and wall-clock seconds of a stage that finished before its parent could record it. `None` if it did not
    /// finish, if its inputs are others now, or if an output is not there or has changed since.
    pub(super) fn finished<R: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        outputs: &[PathBuf],
    ) -> Option<(R, f64)> {
        if fs::read_to_string(&self.begun).ok()? != key {
            return None;
        }
        let report = artefact::read(&self.report).ok()?;
        let [begun, ended] = [&self.begun, &self.report].map(|file| modified(file));
        let (begun, ended) = (begun?, ended?);
        let is_older = |output: &PathBuf| last_change(output).is_some_and(|time| time <= ended);
        let seconds = ended.duration_since(begun).ok()?.as_secs_f64();
        outputs.iter().all(is_older).then_some((report, seconds))
    }

    pub(super) fn remove(&self) {
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

//! Input files of a command, and whether one of them changed while the command read it.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::stamp::Stamp;

/// Extensions of the files in a directory, of a model or an adapter, that commands read.
const EXTENSIONS: [&str; 5] = ["jinja", "json", "model", "safetensors", "txt"];

/// Regular files that a command reads, with their stamps before it began.
#[derive(Debug)]
pub(crate) struct InputFiles(Vec<(PathBuf, Stamp)>);

/// An input that changed while the command ran: what was read may be of both versions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChangedInput(PathBuf);

impl fmt::Display for ChangedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed while it was read, so nothing was written", self.0.display())
    }
}

impl Error for ChangedInput {}

impl InputFiles {
    /// The files at these paths, and in the directories at these paths; to be called before any is read.
    pub(crate) fn of<P: AsRef<Path>>(paths: &[P]) -> Self {
        let files = paths.iter().flat_map(|path| files_at(path.as_ref()));
        Self(files.filter_map(|file| Stamp::of(&file).map(|stamp| (file, stamp))).collect())
    }

    /// Checks that no file has changed since; to be called when the result is there, before it is written or printed.
    ///
    /// # Errors
    /// Names the first file that was written to, replaced or removed.
    pub(crate) fn expect_unchanged(&self) -> Result<(), ChangedInput> {
        let is_unchanged = |(file, stamp): &(PathBuf, Stamp)| {
            Stamp::of(file).is_some_and(|now| now.has_contents_of(stamp))
        };
        match self.0.iter().find(|file| !is_unchanged(file)) {
            Some((file, _)) => Err(ChangedInput(file.clone())),
            None => Ok(()),
        }
    }
}

fn files_at(path: &Path) -> Vec<PathBuf> {
    let is_read = |file: &PathBuf| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
    };
    let mut files = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(is_read).collect(),
        Err(_) => vec![path.to_owned()],
    };
    files.retain(|file| file.is_file());
    files
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_file_that_is_written_to_replaced_or_removed_has_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        let [weights, rows, log] =
            ["model.safetensors", "rows.jsonl", "train.log"].map(|name| dir.path().join(name));
        let write = |file: &Path, text: &str| fs::write(file, text).expect("a file");
        for file in [&weights, &rows, &log] {
            write(file, "one");
        }
        let inputs = InputFiles::of(&[dir.path(), &rows]);
        assert_eq!(inputs.0.len(), 2);
        let set_time = |file: &Path, time: SystemTime| {
            let file = fs::File::options().write(true).open(file).expect("the file");
            file.set_modified(time).expect("a modification time");
        };
        let time = fs::metadata(&weights).and_then(|it| it.modified()).expect("a time");
        write(&log, "another");
        write(&dir.path().join("new.json"), "{}");
        inputs.expect_unchanged().expect("no input has changed");
        set_time(&weights, time + Duration::from_secs(1));
        assert_eq!(inputs.expect_unchanged(), Err(ChangedInput(weights.clone())));
        set_time(&weights, time);
        inputs.expect_unchanged().expect("it is as before");
        write(&weights, "longer");
        set_time(&weights, time);
        assert_eq!(inputs.expect_unchanged(), Err(ChangedInput(weights.clone())));
        write(&weights, "one");
        set_time(&weights, time);
        inputs.expect_unchanged().expect("it is as before");
        if cfg!(unix) {
            let other = dir.path().join("other");
            write(&other, "two");
            set_time(&other, time);
            fs::rename(&other, &weights).expect("replaced");
            assert_eq!(inputs.expect_unchanged(), Err(ChangedInput(weights.clone())));
        }
        fs::remove_file(&weights).expect("removed");
        assert_eq!(inputs.expect_unchanged(), Err(ChangedInput(weights)));
    }
}

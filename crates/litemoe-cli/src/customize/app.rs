use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::history::{REPORT, SWEEP};
use super::single_file;
use crate::row_check::Source;
use crate::splits::{self, Split};
use crate::written_dir::WrittenDir;

/// Names that `customize` itself uses in the output directory.
const RESERVED: [&str; 4] = ["apps", "foundation", REPORT, SWEEP];

/// Data of an app: the files of its splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) train: PathBuf,
    pub(crate) validation: PathBuf,
    pub(crate) test: PathBuf,
    /// Directory of the files, if the program writes it.
    pub(crate) written: Option<WrittenDir>,
    /// The single file that the splits are of.
    pub(crate) single_file: Option<PathBuf>,
}

/// An app as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedApp {
    pub(crate) name: String,
    /// Directory with the splits' files, or a single file of rows.
    path: PathBuf,
}

impl NamedApp {
    /// Parses `NAME=PATH`, or `PATH`, whose last component, without a file's extension, is the name.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name.to_owned(), Path::new(path)),
            None => {
                let path = Path::new(text);
                let name = if path.is_file() { path.file_stem() } else { path.file_name() };
                let name = name.with_context(|| format!("--app {text} has no name"))?;
                (name.to_string_lossy().into_owned(), path)
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            bail!("an app's name is made of letters, digits, `-`, `_` and `.`: `{name}` is not");
        }
        if RESERVED.contains(&name.as_str()) {
            bail!(
                "an app cannot be named `{name}`: the output folder has that name for something else"
            );
        }
        Ok(Self { name, path: path.to_owned() })
    }

    /// Finds the splits' files, or splits a single file by the seed into files below `out`. Writes nothing.
    pub(crate) fn open(self, out: &Path, seed: u64) -> anyhow::Result<App> {
        let Self { name, path } = self;
        if path.is_file() {
            let written = single_file::split(&path, &app_dir(out, &name), seed)?;
            return Ok(App { single_file: Some(path), ..App::written(name, written) });
        }
        App::in_dir(name, &path)
    }
}

impl App {
    /// App with its splits in `dir`.
    fn in_dir(name: String, dir: &Path) -> anyhow::Result<Self> {
        let found = splits::in_dir(dir).with_context(|| format!("app {name}"))?;
        let split =
            |split| splits::required(&found, split, dir).with_context(|| format!("app {name}"));
        let (train, validation, test) =
            (split(Split::Train)?, split(Split::Validation)?, split(Split::Test)?);
        Ok(Self { name, train, validation, test, written: None, single_file: None })
    }

    /// App whose files are still to be written.
    fn written(name: String, written: WrittenDir) -> Self {
        let [train, validation, test] =
            Split::ALL.map(|split| written.dir.join(format!("{}.jsonl", split.name())));
        Self { name, train, validation, test, written: Some(written), single_file: None }
    }

    /// The app with its files where they can be read before they are written: see [`WrittenDir::readable`].
    pub(crate) fn readable(&self, scratch: &Path) -> anyhow::Result<Self> {
        let Some(written) = &self.written else { return Ok(self.clone()) };
        let dir = written.readable(scratch)?;
        let moved = |path: &Path| dir.join(path.file_name().unwrap_or_default());
        let [train, validation, test] =
            [&self.train, &self.validation, &self.test].map(|it| moved(it));
        Ok(Self { train, validation, test, ..self.clone() })
    }

    pub(crate) fn sources(&self) -> [Source<'_>; 3] {
        [
            Source::of(Split::Train, &self.train),
            Source::of(Split::Validation, &self.validation),
            Source::of(Split::Test, &self.test),
        ]
    }
}

/// Directory below `out` of an app's files that the program writes.
fn app_dir(out: &Path, name: &str) -> PathBuf {
    out.join("apps").join(name)
}

/// The embedded foundation, to be written below `out`.
#[cfg(feature = "embedded")]
pub(crate) fn embedded_foundation(out: &Path) -> anyhow::Result<WrittenDir> {
    Ok(embedded(litemoe_fixtures::foundation(), out.join("foundation")))
}

/// The embedded app, to be written below `out`.
#[cfg(feature = "embedded")]
pub(crate) fn embedded_app(out: &Path) -> anyhow::Result<App> {
    let written = embedded(litemoe_fixtures::home(), app_dir(out, "home"));
    Ok(App::written("home".to_owned(), written))
}

#[cfg(feature = "embedded")]
fn embedded(files: &[litemoe_fixtures::EmbeddedFile], dir: PathBuf) -> WrittenDir {
    let files = files.iter().map(|file| (file.name.to_owned(), file.bytes.into()));
    WrittenDir { dir, files: files.collect() }
}

#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded_foundation(_: &Path) -> anyhow::Result<WrittenDir> {
    bail!("this build has no embedded foundation: name one with --foundation")
}

#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded_app(_: &Path) -> anyhow::Result<App> {
    bail!("this build has no embedded app: name one with --app")
}

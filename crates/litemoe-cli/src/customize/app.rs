use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Names that `customize` itself uses in the output directory.
const RESERVED: [&str; 3] = ["apps", "foundation", "report.json"];

/// Data of an app: three JSONL splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) train: PathBuf,
    pub(crate) validation: PathBuf,
    pub(crate) test: PathBuf,
}

impl App {
    /// Parses `NAME=DIR`, or `DIR`, whose last component is the name.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, dir) = match text.split_once('=') {
            Some((name, dir)) => (name.to_owned(), Path::new(dir)),
            None => {
                let dir = Path::new(text);
                let name = dir.file_name().with_context(|| format!("--app {text} has no name"))?;
                (name.to_string_lossy().into_owned(), dir)
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
        Self::in_dir(name, dir)
    }

    /// App with its splits in `dir`.
    pub(crate) fn in_dir(name: String, dir: &Path) -> anyhow::Result<Self> {
        let split = |split: &str| -> anyhow::Result<PathBuf> {
            let path = dir.join(format!("{split}.jsonl"));
            if !path.is_file() {
                bail!("app {name}: there is no file {}", path.display());
            }
            Ok(path)
        };
        let (train, validation, test) = (split("train")?, split("validation")?, split("test")?);
        Ok(Self { name, train, validation, test })
    }
}

/// Writes the embedded foundation below `out` and returns its directory.
#[cfg(feature = "embedded")]
pub(crate) fn embedded_foundation(out: &Path) -> anyhow::Result<PathBuf> {
    unpack(litemoe_fixtures::foundation(), &out.join("foundation"))
}

/// Writes the embedded app below `out`.
#[cfg(feature = "embedded")]
pub(crate) fn embedded_app(out: &Path) -> anyhow::Result<App> {
    let dir = unpack(litemoe_fixtures::home(), &out.join("apps").join("home"))?;
    App::in_dir("home".to_owned(), &dir)
}

#[cfg(feature = "embedded")]
fn unpack(files: &[litemoe_fixtures::EmbeddedFile], dir: &Path) -> anyhow::Result<PathBuf> {
    let there = |file: &litemoe_fixtures::EmbeddedFile| {
        std::fs::read(dir.join(file.name)).is_ok_and(|bytes| bytes == file.bytes)
    };
    if files.iter().all(there) {
        return Ok(dir.to_owned());
    }
    let write = || -> std::io::Result<()> {
        let names: Vec<&str> = files.iter().map(|file| file.name).collect();
        let is_own = move |dir: &Path| litemoe_files::holds_only(dir, &names);
        let mut staged = litemoe_files::StagedDir::new(dir, is_own)?;
        for file in files {
            std::io::Write::write_all(&mut staged.file(file.name)?, file.bytes)?;
        }
        staged.commit()
    };
    write().with_context(|| format!("cannot write {}", dir.display()))?;
    Ok(dir.to_owned())
}

#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded_foundation(_: &Path) -> anyhow::Result<PathBuf> {
    bail!("this build has no embedded foundation: name one with --foundation")
}

#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded_app(_: &Path) -> anyhow::Result<App> {
    bail!("this build has no embedded app: name one with --app")
}

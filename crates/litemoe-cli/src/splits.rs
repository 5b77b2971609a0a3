//! Splits of an app's rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

/// Use of an app's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Name of the split, and of the files that are written for it.
    pub(crate) fn name(self) -> &'static str {
        self.stems()[0]
    }

    /// Names that a split's file may have, without extension.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["validation", "valid", "val", "dev"],
            Self::Test => &["test"],
        }
    }
}

/// Extensions of a split's file.
const EXTENSIONS: [&str; 3] = ["jsonl", "json", "csv"];

/// Files of the splits in a directory: `train`, `validation` (or `valid`, `val`, `dev`) and `test`, each `.jsonl`,
/// `.json` or `.csv`. Splits without a file are left out; two files of one split are an error.
pub(crate) fn in_dir(dir: &Path) -> anyhow::Result<BTreeMap<Split, PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.with_context(|| format!("cannot read {}", dir.display()))?.file_name());
    }
    names.sort();
    let mut splits: BTreeMap<Split, PathBuf> = BTreeMap::new();
    for path in names.iter().map(|name| dir.join(name)).filter(|path| path.is_file()) {
        let Some(split) = split_of(&path) else { continue };
        if let Some(other) = splits.insert(split, path.clone()) {
            bail!(
                "{} and {} are both {} rows: leave one of them in the folder",
                other.display(),
                path.display(),
                split.name()
            );
        }
    }
    Ok(splits)
}

/// The file of a split, which must be there.
pub(crate) fn required(
    splits: &BTreeMap<Split, PathBuf>,
    split: Split,
    dir: &Path,
) -> anyhow::Result<PathBuf> {
    splits.get(&split).cloned().with_context(|| {
        format!(
            "{} has no {} rows: there is no file {} with .{}",
            dir.display(),
            split.name(),
            split.stems().join(", "),
            EXTENSIONS.join(", .")
        )
    })
}

/// Split that a file holds by its name.
fn split_of(path: &Path) -> Option<Split> {
    let extension = path.extension()?.to_str()?;
    let stem = path.file_stem()?.to_str()?;
    let named = |split: &Split| split.stems().contains(&stem);
    Split::ALL.into_iter().find(|split| EXTENSIONS.contains(&extension) && named(split))
}

//! What is unusual about files of rows, before anything is computed with them.

mod overlaps;
mod repeats;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use litemoe_text::RowFile;

pub(crate) use self::overlaps::Overlap;
pub(crate) use self::repeats::Repeats;
use crate::output;
use crate::splits::Split;

/// A file of rows and what it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// `None` for a file that is not one of an app's splits.
    pub(crate) split: Option<Split>,
    pub(crate) path: &'a Path,
    /// Number of rows below which there are few.
    few: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn of(split: Split, path: &'a Path) -> Self {
        let few = match split {
            Split::Train | Split::Test => 50,
            Split::Validation => 20,
        };
        Self { split: Some(split), path, few }
    }

    pub(crate) fn all(splits: &'a BTreeMap<Split, PathBuf>) -> Vec<Self> {
        splits.iter().map(|(&split, path)| Self::of(split, path)).collect()
    }

    /// A file of all rows of an app.
    pub(crate) fn whole(path: &'a Path) -> Self {
        Self { split: None, path, few: 50 }
    }

    /// Calibration rows: scoring tells by their tokens whether they are too few.
    pub(crate) fn calibration(path: &'a Path) -> Self {
        Self { split: None, path, few: 0 }
    }

    /// Name in messages.
    fn name(self) -> String {
        self.split.map_or_else(|| "rows".to_owned(), |split| format!("{} rows", split.name()))
    }
}

/// Reads the files and notes what is unusual about them.
pub(crate) fn note(sources: &[Source<'_>]) -> anyhow::Result<()> {
    let files = sources.iter().map(|source| Ok((*source, RowFile::read(source.path)?)));
    let files = files.collect::<anyhow::Result<Vec<_>>>()?;
    for warning in warnings(&files) {
        output::note(&format!("warning: {warning}"));
    }
    Ok(())
}

/// One sentence for each unusual property of the files.
pub(crate) fn warnings(files: &[(Source<'_>, RowFile)]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (source, file) in files {
        let (name, path, n_rows) = (source.name(), source.path.display(), file.rows.len());
        let few = source.few;
        if n_rows < few {
            warnings.push(format!(
                "{path}: {n_rows} {name} are few: with less than {few}, results are uncertain"
            ));
        }
        warnings.extend(Repeats::of(file).warnings(&path.to_string()));
    }
    warnings.extend(Overlap::all(files).iter().map(Overlap::warning));
    warnings
}

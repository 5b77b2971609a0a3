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
}

impl<'a> Source<'a> {
    pub(crate) fn of(split: Split, path: &'a Path) -> Self {
        Self { split: Some(split), path }
    }

    pub(crate) fn all(splits: &'a BTreeMap<Split, PathBuf>) -> Vec<Self> {
        splits.iter().map(|(&split, path)| Self::of(split, path)).collect()
    }

    /// Name in messages.
    pub(crate) fn name(self) -> String {
        match self.split {
            Some(split) => format!("{} rows", split.name()),
            None => "rows".to_owned(),
        }
    }

    /// Number of rows below which there are few.
    fn few(self) -> usize {
        match self.split {
            Some(Split::Train) | None => 50,
            Some(Split::Validation) => 20,
            Some(Split::Test) => 50,
        }
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
        if n_rows < source.few() {
            let few = source.few();
            warnings.push(format!(
                "{path}: {n_rows} {name} are few: with less than {few}, results are uncertain"
            ));
        }
        warnings.extend(Repeats::of(file).warnings(&path.to_string()));
    }
    warnings.extend(Overlap::all(files).iter().map(Overlap::warning));
    warnings
}

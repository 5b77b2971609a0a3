use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::splits::Split;

/// A file of rows and what it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// `None` for a file that is not one of an app's splits.
    pub(crate) split: Option<Split>,
    pub(crate) path: &'a Path,
    /// Number of rows below which there are few.
    pub(super) few: usize,
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
    pub(super) fn name(self) -> String {
        self.split.map_or_else(|| "rows".to_owned(), |split| format!("{} rows", split.name()))
    }
}

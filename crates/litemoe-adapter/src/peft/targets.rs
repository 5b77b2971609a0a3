use std::collections::BTreeSet;

use super::pattern::Pattern;
use crate::AdapterError;

/// Values of `target_modules` and `exclude_modules`.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// Names that a path equals or has as a suffix.
    Ends(BTreeSet<String>),
    /// Regular expression for the whole path.
    Pattern(Pattern),
    /// `all-linear`: every linear weight that has tensors in the file.
    AllLinear,
}

impl Targets {
    /// No target.
    pub(super) fn none() -> Self {
        Self::Ends(BTreeSet::new())
    }

    /// Whether a path is targeted.
    ///
    /// # Errors
    /// A pattern that takes too many steps.
    pub(super) fn matches(&self, path: &str) -> Result<bool, AdapterError> {
        match self {
            Self::Ends(ends) => Ok(suffixes(path).any(|end| ends.contains(end))),
            Self::Pattern(pattern) => pattern.matches(path),
            Self::AllLinear => Ok(true),
        }
    }

    /// Whether a list of names has the whole path.
    pub(super) fn names(&self, path: &str) -> bool {
        matches!(self, Self::Ends(ends) if ends.contains(path))
    }
}

/// Suffixes of a path in whole components, from the whole path to its last component.
pub(super) fn suffixes(path: &str) -> impl Iterator<Item = &str> {
    let dots = path.match_indices('.').map(|(dot, _)| dot + 1);
    std::iter::once(0).chain(dots).map(|start| &path[start..])
}

/// `layers_to_transform` and `layers_pattern`: the numbers of the layers that target names are meant in.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) numbers: BTreeSet<u64>,
    pub(super) patterns: Vec<Pattern>,
}

impl Layers {
    /// Whether a path is in one of the layers, by the first pattern that it matches.
    ///
    /// # Errors
    /// As [`Targets::matches`].
    pub(super) fn have(&self, path: &str) -> Result<bool, AdapterError> {
        for pattern in &self.patterns {
            if let Some(number) = pattern.layer(path)? {
                return Ok(number.is_some_and(|number| self.numbers.contains(&number)));
            }
        }
        Ok(false)
    }
}

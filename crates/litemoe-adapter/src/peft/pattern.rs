use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use crate::AdapterError;

/// Values of `target_modules` and `exclude_modules`.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// Names that a path equals or has as a suffix.
    Ends(BTreeSet<String>),
    /// Regular expression for the whole path.
    Pattern(Regex),
    /// `all-linear`: every linear weight that has tensors in the file.
    AllLinear,
}

impl Targets {
    /// Whether a path is targeted.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Ends(ends) => suffixes(path).any(|end| ends.contains(end)),
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::AllLinear => true,
        }
    }
}

/// Suffixes of a path in whole components, from the whole path to its last component.
pub(super) fn suffixes(path: &str) -> impl Iterator<Item = &str> {
    let dots = path.match_indices('.').map(|(dot, _)| dot + 1);
    std::iter::once(0).chain(dots).map(|start| &path[start..])
}

/// `re.fullmatch(pattern, path)`.
pub(super) fn full(path: &Path, key: &'static str, pattern: &str) -> Result<Regex, AdapterError> {
    compile(path, key, pattern, &format!("^(?:{pattern})$"))
}

/// PEFT's `get_pattern_key`: `re.match(rf"(.*\.)?({pattern})$", path)`.
pub(super) fn suffix(path: &Path, key: &'static str, pattern: &str) -> Result<Regex, AdapterError> {
    compile(path, key, pattern, &format!(r"^(?:.*\.)?(?:{pattern})$"))
}

fn compile(
    path: &Path,
    key: &'static str,
    pattern: &str,
    whole: &str,
) -> Result<Regex, AdapterError> {
    Regex::new(whole).map_err(|error| AdapterError::Pattern {
        path: path.to_owned(),
        key,
        pattern: pattern.to_owned(),
        problem: error.to_string(),
    })
}

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use crate::AdapterError;

/// What `target_modules` and `exclude_modules` can hold.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// Names that a path equals or ends with.
    Ends(BTreeSet<String>),
    /// A regular expression for the whole path.
    Pattern(Regex),
    /// `all-linear`: whatever the tensors say.
    AllLinear,
}

impl Targets {
    /// Whether a path is meant.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Ends(ends) => suffixes(path).any(|end| ends.contains(end)),
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::AllLinear => true,
        }
    }
}

/// A path, and what is left of it without its first components, down to the last.
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

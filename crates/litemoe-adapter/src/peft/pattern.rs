use std::path::Path;

use regex::Regex;

use crate::AdapterError;
use crate::fresh::ends_with;

/// What `target_modules` and `exclude_modules` can hold.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// Names that a path equals or ends with.
    Ends(Vec<String>),
    /// A regular expression for the whole path.
    Pattern(Regex),
    /// `all-linear`: whatever the tensors say.
    AllLinear,
}

impl Targets {
    /// Whether a path is meant.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Ends(ends) => ends.iter().any(|end| ends_with(path, end)),
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::AllLinear => true,
        }
    }
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

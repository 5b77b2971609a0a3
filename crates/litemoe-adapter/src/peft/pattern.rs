use std::path::{Path, PathBuf};

use fancy_regex::{Regex, RegexBuilder};

use crate::AdapterError;

/// Steps back that matching one path may take; a pattern that needs more would take ages on all paths of a model.
const MAX_STEPS: usize = 100_000;

/// A Python regular expression of a configuration, look-around and back-references included.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    path: PathBuf,
    key: &'static str,
    text: String,
    regex: Regex,
}

impl Pattern {
    /// `re.fullmatch(text, path)`.
    pub(super) fn full(path: &Path, key: &'static str, text: &str) -> Result<Self, AdapterError> {
        Self::new(path, key, text, &format!("^(?:{text})$"))
    }

    /// PEFT's `get_pattern_key`: `re.match(rf"(.*\.)?({text})$", path)`.
    pub(super) fn suffix(path: &Path, key: &'static str, text: &str) -> Result<Self, AdapterError> {
        Self::new(path, key, text, &format!(r"^(.*\.)?({text})$"))
    }

    /// PEFT's `layers_pattern`: `re.match(rf"(?:^|.*?\.){text}\.(?P<idx>\d+)\.", path)`.
    pub(super) fn layers(path: &Path, key: &'static str, text: &str) -> Result<Self, AdapterError> {
        Self::new(path, key, text, &format!(r"^(?:(?:^|.*?\.){text}\.(?P<idx>\d+)\.)"))
    }

    /// PEFT's pattern of layers without `layers_pattern`: the first number in a path.
    pub(super) fn any_layers(path: &Path, key: &'static str) -> Result<Self, AdapterError> {
        Self::new(path, key, "", r"^.*?\.[^.]*\.(?P<idx>\d+)\.")
    }

    fn new(path: &Path, key: &'static str, text: &str, whole: &str) -> Result<Self, AdapterError> {
        let regex = RegexBuilder::new(whole).backtrack_limit(MAX_STEPS).build();
        let (path, text) = (path.to_owned(), text.to_owned());
        match regex {
            Ok(regex) => Ok(Self { path, key, text, regex }),
            Err(error) => {
                Err(AdapterError::Pattern { path, key, pattern: text, problem: error.to_string() })
            }
        }
    }

    /// Whether a path matches.
    ///
    /// # Errors
    /// A pattern that takes too many steps.
    pub(super) fn matches(&self, path: &str) -> Result<bool, AdapterError> {
        self.regex.is_match(path).map_err(|error| self.failed(path, &error))
    }

    /// The layer's number in a path; `None` if it does not match, `Some(None)` if it matches without a number.
    ///
    /// # Errors
    /// As [`matches`](Self::matches).
    pub(super) fn layer(&self, path: &str) -> Result<Option<Option<u64>>, AdapterError> {
        let found = self.regex.captures(path).map_err(|error| self.failed(path, &error))?;
        Ok(found.map(|found| found.name("idx")?.as_str().parse().ok()))
    }

    fn failed(&self, site: &str, error: &fancy_regex::Error) -> AdapterError {
        AdapterError::Pattern {
            path: self.path.clone(),
            key: self.key,
            pattern: self.text.clone(),
            problem: format!("{error} at {site}"),
        }
    }
}

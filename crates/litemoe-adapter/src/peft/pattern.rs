use std::path::{Path, PathBuf};

use fancy_regex::{Regex, RegexBuilder};

use super::python;
use crate::AdapterError;

/// Steps back that matching one path may take; a pattern that needs more would take ages on all paths of a model.
const MAX_STEPS: usize = 100_000;

/// Maximum bytes of the automaton of each part of an expression between look-arounds and back-references.
const MAX_AUTOMATON: usize = 1 << 20;

/// A Python regular expression of a configuration, look-around and back-references included. What Python's `re` lacks,
/// or reads in another way, is refused ([`python`]).
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
        Self::new(path, key, text, text, "$")
    }

    /// PEFT's `get_pattern_key`: `re.match(rf"(.*\.)?({text})$", path)`.
    pub(super) fn suffix(path: &Path, key: &'static str, text: &str) -> Result<Self, AdapterError> {
        Self::new(path, key, text, &format!(r"(.*\.)?({text})$"), "")
    }

    /// PEFT's `layers_pattern`: `re.match(rf"(?:^|.*?\.){text}\.(?P<idx>\d+)\.", path)`.
    pub(super) fn layers(path: &Path, key: &'static str, text: &str) -> Result<Self, AdapterError> {
        Self::new(path, key, text, &format!(r"(?:^|.*?\.){text}\.(?P<idx>\d+)\."), "")
    }

    /// PEFT's pattern of layers without `layers_pattern`: the first number in a path.
    pub(super) fn any_layers(path: &Path, key: &'static str) -> Result<Self, AdapterError> {
        Self::new(path, key, "", r".*?\.[^.]*\.(?P<idx>\d+)\.", "")
    }

    /// `whole` is the expression that PEFT matches at the start of a path, for `text` in the configuration.
    fn new(
        path: &Path,
        key: &'static str,
        text: &str,
        whole: &str,
        end: &str,
    ) -> Result<Self, AdapterError> {
        let anchored = format!("^(?:{whole}){end}");
        let compile = || {
            let mut builder = RegexBuilder::new(&anchored);
            builder.backtrack_limit(MAX_STEPS).delegate_size_limit(MAX_AUTOMATON).build()
        };
        let regex =
            python::check(whole).and_then(|()| compile().map_err(|error| error.to_string()));
        let (path, text) = (path.to_owned(), text.to_owned());
        match regex {
            Ok(regex) => Ok(Self { path, key, text, regex }),
            Err(problem) => Err(AdapterError::Pattern { path, key, pattern: text, problem }),
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

#[cfg(test)]
mod tests {
    use super::*;

    type Constructor = fn(&Path, &'static str, &str) -> Result<Pattern, AdapterError>;

    fn matches(new: Constructor, text: &str, site: &str) -> Option<bool> {
        let pattern = new(Path::new("adapter_config.json"), "rank_pattern", text).ok()?;
        Some(pattern.matches(site).unwrap())
    }

    /// Results of `re.fullmatch` of Python 3.11.
    #[test]
    fn shared_syntax_matches_as_in_python() {
        const SITE: &str = "model.layers.0.self_attn.q_proj";
        for (text, expected) in [
            (r".*\.[qk]_proj", true),
            (r".*\.(q|k)_proj", true),
            (r".*", true),
            (r"model\.layers\.\d+\..*", true),
            (r"model\.layers\.[1-9]\..*", false),
            (r"(?i)MODEL.*|x", true),
            (r"(?i:MODEL)\..*PROJ", false),
            (r"(?i:MODEL)\.(?:.*)(?i:PROJ)", true),
            (r"(?-i:M).*", false),
            (r".*(?<!q_proj)", false),
            (r".*(?<=[qk]_proj)", true),
            (r"(?!.*mlp).*", true),
            (r"(?=.*mlp).*", false),
            (r"(?P<one>.)(?:.*)(?P=one)", false),
            (r"(?P<last>.).*(?P=last)q_proj", false),
            (r".*(.)_a(.)\2n.*", true),
            (r".*(?#the query)q_proj", true),
            (r"[]m]odel.*", true),
            (r"[^]m]odel.*", false),
            (r"[a-z\-]+\.[\w.]+", true),
            (r"[&~|-]*model.*", true),
            (r".{5}\..*", true),
            (r".{,5}\..*", true),
            (r".{6,}?\Z", true),
            (r"\Amodel\b.*\B.", true),
            (r"\x6dodel.*", true),
            (r"model|.*q_proj", true),
            (r"", false),
        ] {
            assert_eq!(matches(Pattern::full, text, SITE), Some(expected), "{text}");
        }
    }

    /// Python refuses these, or reads them in another way than `fancy-regex`.
    #[test]
    fn other_syntax_is_refused() {
        for text in [
            r"[[:alpha:]]+.*",
            r"[a[b]]",
            r"[a-z&&q]",
            r"[a--b]",
            r"[a~~b]",
            r"[a||b]",
            r"[]-a]",
            r"\<q_proj",
            r"q_proj\>",
            r"\h+",
            r".*\Kq",
            r"\Gq",
            r"\p{Alphabetic}+",
            r"[\p{L}]+",
            r"q\z",
            r"\eq",
            r"\R",
            r"[\h]",
            r"[\1]",
            r"\x{71}",
            r"\b{start}q",
            r"q{,}",
            r"q{ 1 }",
            r"q**",
            r"q{2}{3}",
            r"q++",
            r"^*q",
            r"(?<x>q)",
            r"(?'x'q)",
            r"(?>q)",
            r"(?|q)",
            r"(q)(?1)",
            r"(q)\k<1>",
            r"(?P<x>q)(?P>x)",
            r"(?P<x>q)(?P<x>q)",
            r"(q)(?(1)k)",
            r"q(?i)Q",
            r"(?U)q+",
            r"(?x)q _proj",
            r"(?x:q _proj)",
            r"(?i-i:q)",
            r"(q\1)",
            r"\1(q)",
            r"\0",
            r"(q)\111",
            r"(?#\))q)",
            r"q)|(k",
            r"(q",
            r"q)",
            r"[q",
            r"q\",
            r"(?i)\u0131",
            "(?i)\u{131}",
        ] {
            assert_eq!(matches(Pattern::full, text, "q"), None, "{text}");
        }
    }

    /// PEFT matches its own expression, which contains the configuration's.
    #[test]
    fn parts_of_expressions_are_read_in_place() {
        for (text, site, expected) in [
            ("q|k", "a.k", Some(true)),
            ("q|k", "a.kq", Some(false)),
            ("q)|(k", "qx", Some(true)), // (.*\.)?(q)|(k)$
            ("q)|(k", "xk", Some(false)),
            ("(q)\\3", "a.qq", Some(true)),
            ("q\\1", "a.qa.", Some(true)),
            ("q\\2", "a.qq", None),
            ("(?i)Q", "q", None),
            ("(?i:Q)", "a.q", Some(true)),
        ] {
            assert_eq!(matches(Pattern::suffix, text, site), expected, "{text}");
        }
        for (text, site, expected) in [
            ("layers|blocks", "layers", Some(true)), // (?:^|.*?\.)layers|blocks\.(?P<idx>\d+)\.
            ("(?:layers|blocks)", "layers", Some(false)),
            ("(?:layers|blocks)", "a.blocks.0.q", Some(true)),
            ("(?P<idx>layers)", "layers.0.q", None),
            ("(?i)layers", "layers.0.q", None),
        ] {
            assert_eq!(matches(Pattern::layers, text, site), expected, "{text}");
        }
    }
}

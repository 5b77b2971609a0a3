use std::fmt;
use std::str::FromStr;

/// Default revision.
const DEFAULT_REVISION: &str = "main";

/// Model id on the Hub: `org/name` or `org/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelId {
    /// Repository, `org/name`.
    pub(crate) repo: String,
    /// Branch, tag or commit.
    pub(crate) revision: String,
}

impl ModelId {
    /// The same model at a revision; an error if the id already names one.
    pub(crate) fn at(&self, revision: &str) -> Result<Self, String> {
        match self.is_default() {
            true => format!("{}@{revision}", self.repo).parse(),
            false => Err(format!("{self} names a revision, and so does `{revision}`")),
        }
    }

    /// Whether the revision is the default.
    pub(crate) fn is_default(&self) -> bool {
        self.revision == DEFAULT_REVISION
    }
}

impl FromStr for ModelId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let is_repo = repo.split('/').count() == 2 && repo.split('/').all(is_part_of_a_name);
        if is_repo && revision.split('/').all(is_part_of_a_revision) {
            return Ok(Self { repo: repo.to_owned(), revision: revision.to_owned() });
        }
        Err("a model on the hub is named org/name, or org/name@revision".to_owned())
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_default() {
            true => f.write_str(&self.repo),
            false => write!(f, "{}@{}", self.repo, self.revision),
        }
    }
}

/// Whether a revision is a full commit hash, in lower case.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a component of a repository name is valid on the Hub. `--` is reserved: it replaces the slash in the cache.
fn is_part_of_a_name(text: &str) -> bool {
    let ends = |c: char| c == '-' || c == '.';
    is_plain(text) && !text.starts_with(ends) && !text.ends_with(ends) && !text.contains("--")
}

/// Whether a component of a revision means the same in URLs and in paths.
fn is_part_of_a_revision(text: &str) -> bool {
    is_plain(text) && !text.starts_with('.')
}

/// Whether a text needs no escaping in URLs and contains no `..`.
pub(super) fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && text.chars().all(plain) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for text in ["org/name", "Qwen/Qwen3-30B-A3B", "a_b/c.d@v1.0", "org/name@refs/pr/7"] {
            let id: ModelId = text.parse().expect(text);
            assert_eq!(id.to_string(), text);
        }
        let id: ModelId = "org/name@main".parse().expect("an id");
        assert_eq!((id.to_string().as_str(), id.is_default()), ("org/name", true));
    }

    #[test]
    fn what_is_a_path_or_could_lead_out_of_the_cache_is_no_id() {
        let texts = [
            "name",
            "a/b/c",
            "./name",
            "../name",
            "org/",
            "/name",
            "org/..",
            "org/a--b",
            "org/-a",
            "org/name@",
            "org/name@..",
            "org/name@a/../b",
            "org/name@/a",
            "org/na me",
            "o?/n",
            "",
        ];
        for text in texts {
            assert!(text.parse::<ModelId>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_revision_is_named() {
        let id: ModelId = "org/name".parse().expect("an id");
        let tagged = id.at("v1").expect("a revision");
        assert_eq!(tagged.to_string(), "org/name@v1");
        assert!(tagged.at("v2").is_err());
        assert!(id.at("a b").is_err());
    }
}

//! A repository's list of files at one commit, as the Hub states it.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::ModelId;
use super::digest::Digest;
use super::id::is_commit;

/// Maximum bytes of the Hub's JSON.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Maximum bytes of a file name, and of one component: limits of file systems.
const MAX_NAME: usize = 1024;
const MAX_COMPONENT: usize = 255;

/// Files of a repository at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// 40 hexadecimal digits.
    pub(super) commit: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    size: Option<u64>,
    digest: Option<String>,
}

/// Length and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// The Hub's JSON; other members are skipped.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the Hub's JSON.
    ///
    /// # Errors
    /// When the commit is none or not the one that was asked for, or a file's name could lead out of a folder, is
    /// repeated, or has two lengths.
    pub(super) fn parse(json: &[u8], id: &ModelId) -> anyhow::Result<Self> {
        let info: Info = serde_json::from_slice(json)?;
        if !is_commit(&info.sha) {
            bail!("{id} is at the commit {:?}, which is none", info.sha);
        }
        if is_commit(&id.revision) && info.sha != id.revision {
            bail!("{id} is at the commit {} instead", info.sha);
        }
        let mut files = BTreeMap::new();
        for file in info.siblings {
            let name = file.rfilename;
            if let Some(fault) = fault(&name) {
                let start: String = name.chars().take(100).collect();
                bail!("{id} has a file named {start:?}: {fault}");
            }
            let (size, digest) = match file.lfs {
                Some(lfs) if file.size.is_some_and(|size| size != lfs.size) => {
                    bail!(
                        "{id} has a file {name:?} of two lengths, {:?} and {}",
                        file.size,
                        lfs.size
                    )
                }
                Some(lfs) => (Some(lfs.size), Some(lfs.sha256)),
                None => (file.size, file.blob_id),
            };
            if files.insert(name.clone(), Entry { size, digest }).is_some() {
                bail!("{id} has the file {name:?} twice");
            }
        }
        Ok(Self { commit: info.sha, files })
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Length and hash of a file.
    ///
    /// # Errors
    /// When the Hub has no such file, or states no length or hash.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<Listed> {
        let entry = self.files.get(name).with_context(|| format!("there is no file {name:?}"))?;
        let size = entry.size.with_context(|| format!("no length of {name} is given"))?;
        let digest =
            entry.digest.as_deref().with_context(|| format!("no hash of {name} is given"))?;
        let digest = digest.parse().map_err(anyhow::Error::msg);
        Ok(Listed { size, digest: digest.with_context(|| format!("the hash of {name}"))? })
    }
}

/// Why a file of this name could be written outside its folder, or not at all.
fn fault(name: &str) -> Option<&'static str> {
    let is_drive =
        name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    let mut components = name.split('/');
    if name.contains(|c: char| c.is_control()) {
        Some("it has a control character")
    } else if name.contains('\\') {
        Some("it has a backslash")
    } else if is_drive {
        Some("it begins with a drive letter")
    } else if components.clone().any(|part| matches!(part, "" | "." | "..")) {
        Some("it is not a relative path of plain components")
    } else if name.len() > MAX_NAME || components.any(|part| part.len() > MAX_COMPONENT) {
        Some("it is too long")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefact::BOUND;

    #[test]
    fn names_that_lead_elsewhere_have_a_fault() {
        let long = "a".repeat(256);
        let deep = ["a"; 600].join("/");
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/../x",
            "a/..",
            "/x",
            "//x",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "..\\x",
            "C:x",
            "c:/x",
            "a\0b",
            "a\nb",
            "\u{1b}[2J",
            &long,
            &deep,
        ] {
            assert!(fault(name).is_some(), "{name:?}");
        }
        for name in
            ["config.json", "a/b-c_d.e", "..a", "a..b", "...", "ä b", ".gitattributes", "a:b"]
        {
            // `a:b` is a name as good as any: one letter and a colon is a drive only on Windows.
            assert_eq!(fault(name).is_some(), name == "a:b", "{name:?}");
        }
    }

    #[test]
    fn fuzzed_listings() {
        let id: ModelId = "org/name".parse().expect("an id");
        let (sha, git) = ("ab".repeat(32), "cd".repeat(20));
        let json = format!(
            r#"{{"sha": "{git}", "gated": false, "siblings": [{{"rfilename": "a/b", "size": 3, "blobId": "{git}"}},
                {{"rfilename": "c", "size": 5, "blobId": "{git}", "lfs": {{"sha256": "{sha}", "size": 5}}}}]}}"#
        );
        let mut read = 0;
        litemoe_fixtures::fuzz::fuzz_json(&[json.into_bytes()], |_, document| {
            let mut listing = None;
            let allocated =
                allocation_counter::measure(|| listing = Listing::parse(document, &id).ok());
            BOUND.check(document, allocated.bytes_max);
            let Some(listing) = listing else { return };
            read += 1;
            assert!(is_commit(&listing.commit));
            for name in listing.files.keys() {
                assert_eq!(fault(name), None);
                let _ = listing.file(name);
            }
        });
        assert!(read > 0);
    }

    #[test]
    fn lengths_and_hashes_are_read_and_missing_ones_are_named() {
        let id: ModelId = "org/name".parse().expect("an id");
        let (sha, git) = ("ab".repeat(32), "cd".repeat(20));
        let json = format!(
            r#"{{"sha": "{git}", "other": [1], "siblings": [
                {{"rfilename": "a", "size": 3, "blobId": "{git}"}},
                {{"rfilename": "b", "size": 5, "blobId": "{git}", "lfs": {{"sha256": "{sha}", "size": 5}}}},
                {{"rfilename": "c", "blobId": "{git}"}},
                {{"rfilename": "d", "size": 7}},
                {{"rfilename": "e", "size": 7, "blobId": "../../x"}}
            ]}}"#
        );
        let listing = Listing::parse(json.as_bytes(), &id).expect("a listing");
        let digest = |hex: &str| hex.parse::<Digest>().expect("a hash");
        assert_eq!(listing.file("a").expect("a"), Listed { size: 3, digest: digest(&git) });
        assert_eq!(listing.file("b").expect("b"), Listed { size: 5, digest: digest(&sha) });
        for (name, fault) in
            [("c", "length of c"), ("d", "hash of d"), ("e", "hash of e"), ("f", "\"f\"")]
        {
            let error = format!("{:#}", listing.file(name).expect_err(name));
            assert!(error.contains(fault), "{error}");
        }
    }
}

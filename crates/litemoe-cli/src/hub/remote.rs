//! A model on the Hub at one commit.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use litemoe_files::write_file;

use super::ModelId;
use super::client::{Answer, Client};
use super::id::is_commit;
use super::listing::{self, Listing};
use super::repo_cache::RepoCache;
use crate::{disk, output};

/// A model on the Hub at one commit, and its directory in the cache.
pub(super) struct Remote {
    pub(super) client: Client,
    pub(super) id: ModelId,
    pub(super) listing: Listing,
    pub(super) cache: RepoCache,
    snapshot: PathBuf,
    /// Path of the revision's ref; commits have none.
    reference: Option<PathBuf>,
}

impl Remote {
    /// Asks the Hub for the current commit of a revision and its list of files.
    pub(super) fn ask(id: &ModelId) -> anyhow::Result<Self> {
        let client = Client::new()?;
        let revision = id.revision.replace('/', "%2F");
        let path = format!("/api/models/{}/revision/{revision}?blobs=true", id.repo);
        let answer = client.get(&path, 0)?;
        if answer.status() != 200 {
            return Err(refusal(&client, id, &answer));
        }
        let listing = answer.body(listing::MAX_BYTES).and_then(|json| Listing::parse(&json, id));
        let listing = listing.with_context(|| {
            format!("what {} says of {id} is not what it should be", client.origin())
        })?;
        // All files are of one commit, even if the branch moves meanwhile.
        let cache = RepoCache::open(id)?;
        let snapshot = cache.snapshot(&listing.commit)?;
        let reference = match is_commit(&id.revision) {
            true => None,
            false => Some(cache.reference(&id.revision)?),
        };
        Ok(Self { client, id: id.clone(), listing, cache, snapshot, reference })
    }

    /// Snapshot directory of the commit in the cache.
    pub(super) fn snapshot(&self) -> &Path {
        &self.snapshot
    }

    /// Checks that a file that is read whole is at most `max` bytes long.
    pub(super) fn expect_at_most(&self, name: &str, max: u64) -> anyhow::Result<()> {
        let size = self.listing.file(name)?.size;
        if size > max {
            let (size, max) = (output::bytes(size), output::bytes(max));
            bail!("{name} of {} has {size}, more than {max}", self.id);
        }
        Ok(())
    }

    /// Checks that the disk has room for the files.
    pub(super) fn expect_room(&self, names: &[&str]) -> anyhow::Result<()> {
        let mut needed = 0_u64;
        for name in names {
            needed = needed.saturating_add(self.missing(name)?);
        }
        let free = disk::free_bytes(self.cache.root()).with_context(|| {
            format!("cannot read the free space of {}", self.cache.root().display())
        })?;
        if needed > free {
            bail!(
                "{} needs {} more, but {} has {} free",
                self.id,
                output::bytes(needed),
                self.cache.root().display(),
                output::bytes(free)
            );
        }
        Ok(())
    }

    /// Writes the ref of the revision. Call it once all files are fetched.
    pub(super) fn refer(&self) -> anyhow::Result<()> {
        let Some(path) = &self.reference else { return Ok(()) };
        write_file(path, |file| file.write_all(self.listing.commit.as_bytes())).with_context(|| {
            format!("cannot note that {} is the commit {}", self.id, self.listing.commit)
        })
    }
}

/// Explains an HTTP status of the Hub.
pub(super) fn refusal(client: &Client, id: &ModelId, answer: &Answer<'_>) -> anyhow::Error {
    let status = answer.status();
    let why = match status {
        401 => {
            "there is no such model, or it is private or gated: set HF_TOKEN to a token that may read it, or log in \
             with `hf auth login`"
        }
        403 => {
            "it is gated: ask for access on its page, and set HF_TOKEN to the token of an account that has it"
        }
        404 => "there is no such model or revision",
        429 => "too many requests: wait, or set HF_TOKEN",
        _ => "this is not an answer to be expected",
    };
    let said = answer.header("x-error-message").map(|said| {
        let said: String = said.chars().take(200).collect();
        format!(" (it says: {})", said.escape_debug())
    });
    let said = said.unwrap_or_default();
    anyhow::anyhow!("{} refuses {id} with status {status}: {why}{said}", client.origin())
}

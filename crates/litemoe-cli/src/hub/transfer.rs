//! Transfer of one file from the Hub into the cache.

use std::cmp::Ordering;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiError, Metadata};
use indicatif::ProgressBar;

use super::access::Remote;
use super::id::is_plain;
use crate::{artefact, output, progress};

impl Remote {
    /// Fetches a file into the snapshot unless it is there, and resumes an interrupted transfer. Returns the bytes
    /// transferred over the network.
    ///
    /// A file in the snapshot is complete and verified.
    pub(super) fn fetch(&self, name: &str) -> anyhow::Result<u64> {
        if !is_plain(name) {
            bail!("{} has a file of an odd name, `{name}`", self.id());
        }
        let pointer = self.snapshot().join(name);
        if pointer.exists() {
            return Ok(0);
        }
        let _ = fs::remove_file(&pointer); // a dangling link
        let found = self.api.metadata(&self.repo.url(name)).map_err(|error| self.explain(error));
        let found = found.with_context(|| format!("cannot fetch {name} of {}", self.id()))?;
        let blob = self.blob(&found)?;
        let part = part_of(&blob);
        let begun = begun(&part, &blob, found.size() as u64)
            .with_context(|| format!("cannot go on with {}", part.display()))?;
        if blob.exists() {
            fs::create_dir_all(self.snapshot())
                .and_then(|()| link(found.etag(), &blob, &pointer))
                .with_context(|| format!("cannot write {}", pointer.display()))?;
        } else {
            self.download(name, &part, found.size() as u64)?;
        }
        if let Err(error) = check(&blob, &found) {
            let _ = fs::remove_file(&pointer);
            let _ = fs::remove_file(&blob);
            return Err(error.context(format!("{name} of {} is not as the hub has it", self.id())));
        }
        Ok(found.size() as u64 - begun)
    }

    /// Path of a file's contents in the cache, named by the Hub's ETag.
    fn blob(&self, found: &Metadata) -> anyhow::Result<PathBuf> {
        let etag = Path::new(found.etag());
        let inside = etag.components().all(|part| matches!(part, Component::Normal(_)));
        if found.etag().is_empty() || !inside {
            bail!("the hub names a file of {} by `{}`, which cannot be", self.id(), found.etag());
        }
        Ok(self.cached.blob_path(found.etag()))
    }

    fn download(&self, name: &str, part: &Path, size: u64) -> anyhow::Result<()> {
        let bar = progress::bytes(size, name);
        let done = self.repo.download_with_progress(name, FileBar(bar.clone()));
        bar.finish_and_clear();
        self.drop_own_reference();
        let Err(error) = done else { return Ok(()) };
        let there = fs::metadata(part).map_or(0, |part| part.len());
        let (there, size) = (output::bytes(there), output::bytes(size));
        let broken = matches!(error, ApiError::IoError(_));
        let error = self.explain(error);
        let id = self.id();
        Err(match broken {
            true => error.context(format!(
                "the transfer of {name} broke off at {there} of {size}; `litemoe pull {id}` goes on from there"
            )),
            false => error.context(format!("cannot fetch {name} of {id}")),
        })
    }
}

/// Path of hf-hub's partial file.
fn part_of(blob: &Path) -> PathBuf {
    blob.with_extension("part")
}

/// Bytes that are already in the cache. Also handles partial files that hf-hub cannot resume: a partial file of full
/// length becomes the blob, a longer one is removed.
fn begun(part: &Path, blob: &Path, size: u64) -> std::io::Result<u64> {
    if blob.exists() {
        return Ok(size);
    }
    let Ok(found) = fs::metadata(part) else { return Ok(0) };
    match found.len().cmp(&size) {
        Ordering::Less => Ok(found.len()),
        Ordering::Equal => fs::rename(part, blob).map(|()| size),
        Ordering::Greater => fs::remove_file(part).map(|()| 0),
    }
}

/// Links contents in the cache into a snapshot.
#[cfg(unix)]
fn link(etag: &str, _: &Path, pointer: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer)
}

#[cfg(not(unix))]
fn link(_: &str, blob: &Path, pointer: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, pointer)
}

/// Checks the length of the contents, and the SHA-256 if the ETag is one.
fn check(blob: &Path, found: &Metadata) -> anyhow::Result<()> {
    let (bytes, expected) = (fs::metadata(blob)?.len(), found.size() as u64);
    if bytes != expected {
        bail!("it has {bytes} bytes instead of {expected}: it is removed, fetch it again");
    }
    let is_sha256 = found.etag().len() == 64 && found.etag().bytes().all(|b| b.is_ascii_hexdigit());
    if is_sha256 && artefact::sha256(blob)? != found.etag().to_ascii_lowercase() {
        bail!("its SHA-256 is not {}: it is removed, fetch it again", found.etag());
    }
    Ok(())
}

/// Adapter from hf-hub's progress callbacks to a progress bar.
struct FileBar(ProgressBar);

impl Progress for FileBar {
    fn init(&mut self, _: usize, _: &str) {
        self.0.set_position(0);
    }

    fn update(&mut self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    fn finish(&mut self) {}
}

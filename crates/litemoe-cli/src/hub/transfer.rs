//! Transfer of one file from the Hub into the cache.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::client::Answer;
use super::digest::Hasher;
use super::listing::Listed;
use super::remote::{Remote, refusal};
use super::repo_cache::{length, open};
use crate::output;
use crate::progress::{self, Progress};

/// Bytes that must arrive within the time limit, and restart it.
const PROGRESS: usize = 16 << 10;
const BLOCK: usize = 1 << 16;

impl Remote {
    /// Bytes of a file that are not in the cache.
    pub(super) fn missing(&self, name: &str) -> anyhow::Result<u64> {
        let listed = self.listing.file(name)?;
        let blob = self.cache.blob(&listed.digest)?;
        let is_there = length(&blob)? == Some(listed.size);
        if is_there || self.cache.has(&self.snapshot().join(name), &listed)? {
            return Ok(0);
        }
        let begun = length(&part_of(&blob))?.unwrap_or(0);
        Ok(listed.size.saturating_sub(begun))
    }

    /// Fetches a file into the snapshot unless it is there, and resumes an interrupted transfer. Returns the bytes
    /// transferred over the network.
    ///
    /// Its length and hash are those that the Hub lists; otherwise it is removed.
    pub(super) fn fetch(&self, name: &str) -> anyhow::Result<u64> {
        let fetched = self.fetch_unless_there(name);
        fetched.with_context(|| format!("cannot fetch {name} of {}", self.id))
    }

    fn fetch_unless_there(&self, name: &str) -> anyhow::Result<u64> {
        let listed = self.listing.file(name)?;
        let pointer = self.snapshot().join(name);
        if self.cache.has(&pointer, &listed)? {
            return Ok(0);
        }
        let _locked = self.cache.lock(&listed.digest)?;
        let blob = self.cache.blob(&listed.digest)?;
        let fetched = match is_whole(&blob, &listed)? {
            true => 0,
            false => self.download(name, &listed, &blob)?,
        };
        self.cache.link(&pointer, &listed.digest)?;
        Ok(fetched)
    }

    fn download(&self, name: &str, listed: &Listed, blob: &Path) -> anyhow::Result<u64> {
        let path = part_of(blob);
        let mut part = Part::open(&path, listed)?;
        let mut fetched = 0;
        if part.at < listed.size {
            let bar = progress::fetching(name, listed.size);
            fetched = self.receive(name, &mut part, &bar)?;
            bar.finish();
        }
        let Part { hasher, file, .. } = part;
        if hasher.finish() != listed.digest {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            let function = listed.digest.function();
            bail!("its {function} is not {}: it is removed, fetch it again", listed.digest);
        }
        let kept = file.sync_all().and_then(|()| fs::rename(&path, blob));
        kept.with_context(|| format!("cannot write {}", blob.display()))?;
        Ok(fetched)
    }

    /// Receives the rest of a part. Returns the bytes transferred.
    fn receive(&self, name: &str, part: &mut Part<'_>, bar: &Progress) -> anyhow::Result<u64> {
        let path = format!("/{}/resolve/{}/{name}", self.id.repo, self.listing.commit);
        let mut answer = self.client.get(&path, part.at)?;
        match answer.status() {
            // The server ignores the range.
            200 => part.restart()?,
            206 if part.at > 0 => part.expect_range(&answer)?,
            _ => return Err(refusal(&self.client, &self.id, &answer)),
        }
        let begun = part.at;
        part.expect_length(&answer)?;
        bar.set(begun);
        part.copy(&mut answer, bar).with_context(|| {
            let (there, size) = (output::bytes(part.at), output::bytes(part.listed.size));
            format!(
                "the transfer broke off at {there} of {size}; `litemoe pull {}` goes on from there",
                self.id
            )
        })?;
        Ok(part.at - begun)
    }
}

/// Contents that are not all there, with their hash so far.
struct Part<'l> {
    listed: &'l Listed,
    file: File,
    at: u64,
    hasher: Hasher,
}

impl<'l> Part<'l> {
    /// Opens a partial file, or creates it. One that is longer than the contents is emptied.
    fn open(path: &Path, listed: &'l Listed) -> anyhow::Result<Self> {
        let cannot = || format!("cannot go on with {}", path.display());
        let mut file = open(path)?;
        if file.metadata().with_context(cannot)?.len() > listed.size {
            file.set_len(0).with_context(cannot)?;
        }
        let mut hasher = listed.digest.hasher(listed.size);
        let at = hash(&mut file, &mut hasher).with_context(cannot)?;
        Ok(Self { listed, file, at, hasher })
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).context("cannot empty a part")?;
        self.at = 0;
        self.hasher = self.listed.digest.hasher(self.listed.size);
        Ok(())
    }

    /// Checks that the answer goes on where the part ends.
    fn expect_range(&self, answer: &Answer<'_>) -> anyhow::Result<()> {
        let size = self.listed.size;
        let expected = format!("bytes {}-{}/{size}", self.at, size - 1);
        match answer.header("content-range") {
            Some(range) if range == expected => Ok(()),
            range => bail!("the hub sends the range {range:?} instead of {expected:?}"),
        }
    }

    /// Checks that the answer announces the bytes that are missing. Other ways to delimit a body have no end that
    /// could be checked before it is read.
    fn expect_length(&self, answer: &Answer<'_>) -> anyhow::Result<()> {
        let expected = self.listed.size - self.at;
        if answer.header("transfer-encoding").is_some() {
            bail!("the hub sends chunks instead of {expected} bytes");
        }
        match answer.header("content-length").map(str::parse::<u64>) {
            Some(Ok(length)) if length == expected => Ok(()),
            Some(Ok(length)) => bail!("the hub announces {length} bytes instead of {expected}"),
            _ => bail!("the hub does not announce how many bytes it sends"),
        }
    }

    fn copy(&mut self, answer: &mut Answer<'_>, bar: &Progress) -> anyhow::Result<()> {
        let mut block = vec![0; BLOCK];
        let mut since_restart = 0;
        while self.at < self.listed.size {
            let read = answer.read(&mut block)?;
            let left = self.listed.size - self.at;
            if read == 0 || read as u64 > left {
                bail!(
                    "the hub sends {} bytes than it announces",
                    if read == 0 { "fewer" } else { "more" }
                );
            }
            self.file.write_all(&block[..read]).context("cannot write into the cache")?;
            self.hasher.update(&block[..read]);
            self.at += read as u64;
            bar.set(self.at);
            since_restart += read;
            if since_restart >= PROGRESS {
                since_restart = 0;
                answer.progress();
            }
        }
        Ok(())
    }
}

/// Path of partial contents; `huggingface_hub` resumes from the same file.
fn part_of(blob: &Path) -> PathBuf {
    let mut path = OsString::from(blob);
    path.push(".incomplete");
    path.into()
}

/// Whether contents are in the cache, with the right hash. Contents of another hash stay until they are replaced.
///
/// # Errors
/// When their hash is right and the length that the hub lists is wrong.
fn is_whole(blob: &Path, listed: &Listed) -> anyhow::Result<bool> {
    let Some(size) = length(blob)? else { return Ok(false) };
    let mut hasher = listed.digest.hasher(size);
    File::open(blob)
        .and_then(|mut file| hash(&mut file, &mut hasher))
        .with_context(|| format!("cannot read {}", blob.display()))?;
    if hasher.finish() != listed.digest {
        return Ok(false);
    }
    if size != listed.size {
        let (function, digest) = (listed.digest.function(), &listed.digest);
        bail!(
            "the hub lists {} bytes, but the contents of the {function} {digest} have {size}",
            listed.size
        );
    }
    Ok(true)
}

/// Hashes the rest of a file. Returns its bytes.
fn hash(file: &mut File, hasher: &mut Hasher) -> std::io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(bytes);
        }
        hasher.update(&block[..read]);
        bytes += read as u64;
    }
}

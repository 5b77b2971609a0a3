//! Hugging Face cache, in its standard layout `models--org--name/{blobs,refs,snapshots}`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, bail};

use super::id::is_commit;
use super::{ModelId, variable};

/// Bytes that are read of a ref: a commit, and blanks.
const MAX_REF_BYTES: u64 = 64;

/// Model directory of a path or a Hub id. An existing path takes precedence; an id is looked up in the cache, without
/// network access.
pub(crate) fn locate(named: &Path) -> anyhow::Result<PathBuf> {
    if named.is_dir() {
        return Ok(named.to_owned());
    }
    let text = named.to_str().filter(|_| !named.exists());
    let Some(id) = text.and_then(|text| text.parse::<ModelId>().ok()) else {
        bail!("{} is neither a folder nor a model's id on the hub, org/name", named.display());
    };
    let cache = dir()?;
    snapshot(&cache, &id).with_context(|| {
        let cache = cache.display();
        format!("{id} is neither a folder nor in the hub's cache, {cache}: get it with `litemoe pull {id}`")
    })
}

/// Model id of a snapshot directory in the cache; `None` for any other directory.
pub(crate) fn snapshot_id(dir: &Path) -> Option<ModelId> {
    let dir = fs::canonicalize(dir).ok()?;
    let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    let commit = name(&dir)?;
    let snapshots = dir.parent().filter(|path| path.ends_with("snapshots"))?;
    let repo_dir = snapshots.parent()?;
    let repo = name(repo_dir)?.strip_prefix("models--")?.replacen("--", "/", 1);
    let bare: ModelId = repo.parse().ok()?;
    let is_default = commit_of(repo_dir, &bare).is_some_and(|default| default == commit);
    if is_default { Some(bare) } else { bare.at(&commit).ok() }
}

/// Cache directory: `$HF_HUB_CACHE`, or `hub` in [`home`].
pub(super) fn dir() -> anyhow::Result<PathBuf> {
    match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(dir) => Ok(dir.into()),
        None => Ok(home()?.join("hub")),
    }
}

/// Home directory of Hugging Face programs: `$HF_HOME`, or `huggingface` in the user's cache directory.
pub(super) fn home() -> anyhow::Result<PathBuf> {
    if let Some(home) = variable("HF_HOME") {
        return Ok(home.into());
    }
    let caches = match variable("XDG_CACHE_HOME") {
        Some(caches) => caches.into(),
        None => env::home_dir().context("there is no home folder: set HF_HOME")?.join(".cache"),
    };
    Ok(caches.join("huggingface"))
}

/// Name of a model's directory in the cache.
pub(super) fn folder(id: &ModelId) -> String {
    format!("models--{}", id.repo.replace('/', "--"))
}

/// Snapshot directory of a model's revision, if it is in the cache.
pub(super) fn snapshot(cache: &Path, id: &ModelId) -> Option<PathBuf> {
    let repo = cache.join(folder(id));
    let dir = repo.join("snapshots").join(commit_of(&repo, id)?);
    dir.is_dir().then_some(dir)
}

/// Commit of a revision, according to the cache's refs; `None` if a ref holds anything else.
fn commit_of(repo_dir: &Path, id: &ModelId) -> Option<String> {
    if is_commit(&id.revision) {
        return Some(id.revision.clone());
    }
    let file = repo_dir.join("refs").join(&id.revision);
    if !file.is_file() {
        return None;
    }
    let mut commit = String::new();
    fs::File::open(file).ok()?.take(MAX_REF_BYTES).read_to_string(&mut commit).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
}

//! The hub's cache as every program of the field lays it out: `models--org--name/{blobs,refs,snapshots}`.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, bail};

use super::id::is_commit;
use super::{ModelId, variable};

/// The folder of a model that is named by a path or by its id on the hub. A path that exists wins; an id is looked up
/// in the cache, and nothing is fetched.
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

/// What a folder in the cache is a snapshot of; `None` of any other folder.
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

/// `$HF_HUB_CACHE`, or `hub` in [`home`].
pub(super) fn dir() -> anyhow::Result<PathBuf> {
    match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(dir) => Ok(dir.into()),
        None => Ok(home()?.join("hub")),
    }
}

/// `$HF_HOME`, or `huggingface` in the user's folder for caches.
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

/// The folder in which a model's files at a revision are.
pub(super) fn snapshot(cache: &Path, id: &ModelId) -> Option<PathBuf> {
    let repo = cache.join(format!("models--{}", id.repo.replace('/', "--")));
    let dir = repo.join("snapshots").join(commit_of(&repo, id)?);
    dir.is_dir().then_some(dir)
}

/// The commit that a revision is, as far as the cache knows.
fn commit_of(repo_dir: &Path, id: &ModelId) -> Option<String> {
    if is_commit(&id.revision) {
        return Some(id.revision.clone());
    }
    let commit = fs::read_to_string(repo_dir.join("refs").join(&id.revision)).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| !commit.is_empty())
}

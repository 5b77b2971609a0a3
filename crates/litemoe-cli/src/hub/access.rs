//! Access to the Hugging Face Hub: configuration from the environment, and a model's list of files.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::id::is_commit;
use super::{ModelId, cache, variable};

/// Offline mode: whether the environment forbids network access.
pub(super) fn is_offline() -> bool {
    let value = variable("HF_HUB_OFFLINE").or_else(|| variable("TRANSFORMERS_OFFLINE"));
    value.is_some_and(|value| is_true(&value))
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn endpoint() -> String {
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    endpoint.trim_end_matches('/').to_owned()
}

/// Access token: `$HF_TOKEN`, or the token file that a login writes.
fn token() -> anyhow::Result<Option<String>> {
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return Ok(None);
    }
    let said = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
    let path = match variable("HF_TOKEN_PATH") {
        Some(path) => path.into(),
        None => cache::home()?.join("token"),
    };
    let token = said.or_else(|| fs::read_to_string(path).ok());
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        bail!("the hub's token, from HF_TOKEN or a login, holds a character that no token has");
    }
    Ok(token)
}

/// A model on the Hub at one commit.
pub(super) struct Remote {
    pub(super) api: Api,
    pub(super) repo: ApiRepo,
    /// Its directory in the cache.
    pub(super) cached: CacheRepo,
    cache: Cache,
    id: ModelId,
    endpoint: String,
    commit: String,
    names: Vec<String>,
}

impl Remote {
    /// Asks the Hub for the current commit of a revision and its list of files.
    pub(super) fn ask(id: &ModelId) -> anyhow::Result<Self> {
        let endpoint = endpoint();
        let cache = Cache::new(cache::dir()?);
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(endpoint.clone())
            .with_token(token()?)
            .with_user_agent("litemoe", env!("CARGO_PKG_VERSION"))
            .build()?;
        let info = info(&api, id, &endpoint)?;
        if !is_commit(&info.sha) {
            bail!("{endpoint} says that {id} is at the commit `{}`, which is none", info.sha);
        }
        let names = info.siblings.into_iter().map(|file| file.rfilename).collect();
        // All files are of one commit, even if the branch moves meanwhile.
        let repo = repo(id, &info.sha);
        Ok(Self {
            repo: api.repo(repo.clone()),
            cached: cache.repo(repo),
            api,
            cache,
            id: id.clone(),
            endpoint,
            commit: info.sha,
            names,
        })
    }

    pub(super) fn id(&self) -> &ModelId {
        &self.id
    }

    /// File names.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Snapshot directory of the commit in the cache.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.cached.pointer_path(&self.commit)
    }

    /// Writes the ref of the revision. Call it once all files are fetched.
    pub(super) fn refer(&self) -> anyhow::Result<()> {
        if is_commit(&self.id.revision) {
            return Ok(());
        }
        self.cache
            .repo(repo(&self.id, &self.id.revision))
            .create_ref(&self.commit)
            .with_context(|| format!("cannot note that {} is the commit {}", self.id, self.commit))
    }

    /// Removes the ref that hf-hub writes for the commit itself; other programs have none.
    pub(super) fn drop_own_reference(&self) {
        let folder = repo(&self.id, &self.commit).folder_name();
        let refs = self.cache.path().join(folder).join("refs");
        let _ = fs::remove_file(refs.join(&self.commit));
    }

    /// Translates an error of hf-hub for the user.
    pub(super) fn explain(&self, error: ApiError) -> anyhow::Error {
        match &error {
            ApiError::RequestError(request) => match **request {
                ureq::Error::StatusCode(status) => refusal(&self.id, &self.endpoint, status, None),
                _ => anyhow::Error::new(error),
            },
            _ => anyhow::Error::new(error),
        }
    }
}

fn repo(id: &ModelId, revision: &str) -> Repo {
    Repo::with_revision(id.repo.clone(), RepoType::Model, revision.to_owned())
}

fn info(api: &Api, id: &ModelId, endpoint: &str) -> anyhow::Result<RepoInfo> {
    let request = api
        .repo(repo(id, &id.revision))
        .info_request()
        .config()
        .http_status_as_error(false)
        .build();
    let mut response = request.call().with_context(|| format!("cannot reach {endpoint}"))?;
    let status = response.status();
    if !status.is_success() {
        let said = response.headers().get("x-error-message").and_then(|said| said.to_str().ok());
        return Err(refusal(id, endpoint, status.as_u16(), said));
    }
    let info = response.body_mut().read_json();
    info.with_context(|| format!("what {endpoint} says of {id} is not what it should be"))
}

/// Explains an HTTP error status of the Hub.
fn refusal(id: &ModelId, endpoint: &str, status: u16, said: Option<&str>) -> anyhow::Error {
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
    let said = said.map(|said| format!(" (it says: {said})")).unwrap_or_default();
    anyhow::anyhow!("{endpoint} refuses {id} with status {status}: {why}{said}")
}

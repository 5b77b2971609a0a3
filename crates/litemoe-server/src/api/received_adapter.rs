use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header;
use litemoe_registry::{
    AdapterName, App, FileName, NewAdapter, Owner, Provenance, RegistryError, StagedDir,
    StoredAdapter,
};
use serde_json::Value;

use crate::api::blocking::blocking;
use crate::api::body;
use crate::api::error::ApiError;
use crate::api::multipart::{Form, Part};
use crate::api::registry_error::unwritten;
use crate::apps::Apps;
use crate::proxies::ProxyError;
use crate::state::State;
use crate::{MountRequest, MountedProvenance};

/// Maximum number of files of an adapter that is sent.
const MAX_FILES: usize = 16;

/// Fields of the plan of the proxy that an adapter was tuned on, and of validation rows; other fields are files of the
/// adapter.
const PLAN: &str = "plan";
const VALIDATION: &str = "validation";

/// Folder of the mounted adapter.
const MOUNTED: &str = "mounted";

/// Bytes that are written at once.
const WRITE: usize = 256 << 10;

/// Stores the files of a form as an adapter of an app, after it was loaded once: one that does not fit the foundation or
/// changes nothing is refused. One that comes with the plan of a proxy is mounted first.
pub(crate) async fn store(
    state: &State,
    apps: Arc<Apps>,
    app: &App,
    name: AdapterName,
    replaces: Option<u64>,
    request: Request,
) -> Result<StoredAdapter, ApiError> {
    if !is_form(&request) {
        body::refuse(request, state).await;
        return Err(ApiError::no_form());
    }
    let mut form = Form::of(request, state).await?;
    let staged = blocking({
        let apps = apps.clone();
        move || -> Result<_, RegistryError> {
            let (adapter, others) = (apps.registry().staged_dir()?, apps.registry().staged_dir()?);
            Ok(Staged { adapter, others })
        }
    });
    let staged = staged.await??;
    let tuned = match receive(&mut form, staged.adapter.path(), staged.others.path()).await {
        Ok(tuned) => tuned,
        Err(refusal) => {
            form.discard().await;
            return Err(refusal);
        }
    };
    // What is left to do is no upload: others may begin theirs.
    drop(form);
    let (staged, mounted) = match tuned {
        None => (staged, None),
        Some(tuned) => {
            expect_room(&apps, app, &name, staged.adapter.path()).await?;
            let (staged, mounted) = mount(state, app, &name, staged, tuned).await?;
            (staged, Some(mounted))
        }
    };
    let dir = match mounted {
        None => staged.adapter.path().to_owned(),
        Some(_) => staged.mounted(),
    };
    let adapters = apps.adapters.clone();
    let _turn = adapters.turn().await;
    let owner = Owner::App(app.name.clone());
    let keep = move || {
        let loaded = apps.adapters.load(&dir).map_err(|reason| refused(&name, &reason))?;
        let foundation = loaded.foundation;
        let (plan, metrics) =
            mounted.map_or((None, Value::Null), |mounted| (mounted.plan, mounted.metrics));
        let provenance = Provenance { foundation, plan, data: None, metrics };
        let (owner, name) = (&owner, &name);
        let new = NewAdapter { owner, name, dir: &dir, provenance: &provenance, replaces };
        let stored = apps.registry().put_adapter(&new);
        drop(staged);
        Ok(stored?)
    };
    blocking(keep).await?
}

/// Folders of what is sent.
struct Staged {
    /// Files of the adapter.
    adapter: StagedDir,
    /// Plan and validation rows, and the mounted adapter.
    others: StagedDir,
}

impl Staged {
    /// Folder of the mounted adapter.
    fn mounted(&self) -> PathBuf {
        self.others.path().join(MOUNTED)
    }
}

/// Mounts an adapter that was tuned on a proxy. The folders are there for as long as it is worked on, also when the client
/// has left.
async fn mount(
    state: &State,
    app: &App,
    name: &AdapterName,
    staged: Staged,
    tuned: Tuned,
) -> Result<(Staged, MountedProvenance), ApiError> {
    let desk = state.desk.as_ref().ok_or_else(ApiError::no_proxies)?;
    let slot = desk.slots.begin(&app.name);
    let _slot = slot.map_err(|too_many| ApiError::too_many(too_many, state.options.retry_after))?;
    let Tuned { plan, validation } = tuned;
    let mounted = desk.run(move |proxies, cancelled| {
        let (validation, out) = (validation.as_deref(), staged.mounted());
        let adapter = staged.adapter.path();
        let request = MountRequest { adapter, plan: &plan, validation, out: &out };
        let mounted = proxies.mount(&request, cancelled)?;
        Ok((staged, mounted))
    });
    mounted.await.map_err(|_| ApiError::failed())?.map_err(|error| match error {
        ProxyError::Refused(reason) => refused(name, &reason),
        ProxyError::Storage => ApiError::storage_full(),
        ProxyError::Cancelled | ProxyError::Failed => ApiError::failed(),
    })
}

/// Refuses an adapter that the app has no room for, before it is mounted.
async fn expect_room(
    apps: &Arc<Apps>,
    app: &App,
    name: &AdapterName,
    dir: &Path,
) -> Result<(), ApiError> {
    let (apps, app, name, dir) = (apps.clone(), app.name.clone(), name.clone(), dir.to_owned());
    let look = move || -> Result<(), ApiError> {
        let bytes = fs::read_dir(dir).and_then(|entries| {
            entries.map(|entry| Ok(entry?.metadata()?.len())).sum::<io::Result<u64>>()
        });
        let bytes = bytes.map_err(|error| unwritten(&error))?;
        Ok(apps.registry().expect_room_for_adapter(&app, &name, bytes)?)
    };
    blocking(look).await?
}

fn refused(name: &AdapterName, reason: &str) -> ApiError {
    let message = format!("the adapter `{name}` is refused: {reason}");
    ApiError::bad_request("invalid_adapter", message)
}

fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("multipart/form-data"))
}

/// What is sent with an adapter that was tuned on a proxy.
#[derive(Debug)]
struct Tuned {
    plan: PathBuf,
    validation: Option<PathBuf>,
}

/// Writes the files of a form: those of the adapter to `adapter`, its plan and validation rows to `others`.
async fn receive(
    form: &mut Form,
    adapter: &Path,
    others: &Path,
) -> Result<Option<Tuned>, ApiError> {
    let (mut n_files, mut n_adapter) = (0, 0);
    let (mut plan, mut validation) = (None, None);
    while let Some(part) = form.next().await? {
        n_files += 1;
        if n_files > MAX_FILES {
            let message = format!("an adapter has at most {MAX_FILES} files");
            return Err(ApiError::bad_request("invalid_value", message));
        }
        let other = match part.name() {
            PLAN => Some((PLAN, &mut plan)),
            VALIDATION => Some((VALIDATION, &mut validation)),
            _ => None,
        };
        if let Some((name, path)) = other {
            let name: FileName = name.parse().map_err(RegistryError::from)?;
            *path = Some(others.join(name.as_str()));
            write(part, others, name).await?;
            continue;
        }
        n_adapter += 1;
        // Of the part's file, or of the field if it has none.
        let name = part.file_name().unwrap_or(part.name()).parse();
        write(part, adapter, name.map_err(RegistryError::from)?).await?;
    }
    if n_adapter == 0 {
        let message = "the form has no files of an adapter";
        return Err(ApiError::bad_request("invalid_value", message));
    }
    match (plan, validation) {
        (Some(plan), validation) => Ok(Some(Tuned { plan, validation })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ApiError::missing(PLAN)),
    }
}

async fn write(mut part: Part<'_>, dir: &Path, name: FileName) -> Result<(), ApiError> {
    let path = dir.join(name.as_str());
    let create = move || OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = blocking(create).await?.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            ApiError::bad_request("invalid_value", format!("the file `{name}` is sent twice"))
        }
        _ => unwritten(&error),
    })?;
    let mut waiting = Vec::new();
    while let Some(chunk) = part.chunk().await? {
        waiting.extend_from_slice(&chunk);
        if waiting.len() >= WRITE {
            file = append(file, std::mem::take(&mut waiting)).await?;
        }
    }
    append(file, waiting).await?;
    Ok(())
}

/// Writes bytes off the asynchronous threads. No thread waits for the client.
async fn append(mut file: File, bytes: Vec<u8>) -> Result<File, ApiError> {
    let written = blocking(move || file.write_all(&bytes).map(|()| file)).await?;
    written.map_err(|error| unwritten(&error))
}

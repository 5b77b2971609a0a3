use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header;
use litemoe_registry::{
    AdapterName, App, FileName, NewAdapter, Owner, Provenance, RegistryError, StoredAdapter,
};
use serde_json::Value;

use crate::api::blocking::blocking;
use crate::api::body;
use crate::api::error::ApiError;
use crate::api::multipart::{Form, Part};
use crate::api::registry_error::unwritten;
use crate::apps::Apps;
use crate::state::State;

/// Maximum number of files of an adapter that is sent.
const MAX_FILES: usize = 16;

/// Bytes that are written at once.
const WRITE: usize = 256 << 10;

/// Stores the files of a form as an adapter of an app, after it was loaded once: one that does not fit the foundation or
/// changes nothing is refused.
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
        move || apps.registry().staged_dir()
    });
    let staged = staged.await??;
    if let Err(refusal) = receive(&mut form, staged.path().to_owned()).await {
        form.discard().await;
        return Err(refusal);
    }
    let adapters = apps.adapters.clone();
    let _turn = adapters.turn().await;
    let owner = Owner::App(app.name.clone());
    let keep = move || {
        apps.adapters.load(staged.path()).map_err(|reason| {
            let message = format!("the adapter `{name}` is refused: {reason}");
            ApiError::bad_request("invalid_adapter", message)
        })?;
        let foundation = apps.adapters.foundation().to_owned();
        let provenance = Provenance { foundation, plan: None, data: None, metrics: Value::Null };
        let (owner, name, dir) = (&owner, &name, staged.path());
        let new = NewAdapter { owner, name, dir, provenance: &provenance, replaces };
        Ok(apps.registry().put_adapter(&new)?)
    };
    blocking(keep).await?
}

fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("multipart/form-data"))
}

/// Writes the files of a form to a folder.
async fn receive(form: &mut Form, dir: PathBuf) -> Result<(), ApiError> {
    let mut n_files = 0;
    while let Some(part) = form.next().await? {
        n_files += 1;
        if n_files > MAX_FILES {
            let message = format!("an adapter has at most {MAX_FILES} files");
            return Err(ApiError::bad_request("invalid_value", message));
        }
        // Of the part's file, or of the field if it has none.
        let name = part.file_name().unwrap_or(part.name()).parse();
        write(part, &dir, name.map_err(RegistryError::from)?).await?;
    }
    match n_files {
        0 => Err(ApiError::bad_request("invalid_value", "the form has no files")),
        _ => Ok(()),
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

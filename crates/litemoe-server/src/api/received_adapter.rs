use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use litemoe_registry::{
    AdapterName, App, FileName, NewAdapter, Owner, Provenance, RegistryError, StoredAdapter,
};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::api::adapters::blocking;
use crate::api::error::ApiError;
use crate::api::multipart::{Form, Part};
use crate::apps::Apps;
use crate::state::State;

/// Maximum number of files of an adapter that is sent.
const MAX_FILES: usize = 16;

/// Chunks of a file that wait for the disk.
const MAX_WAITING: usize = 4;

/// Files as they arrive. The last message is [`Message::End`] if all arrived whole.
#[derive(Debug)]
enum Message {
    File(FileName),
    Bytes(Bytes),
    End,
}

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
    let form = Form::of(request, state).await?;
    let (sender, messages) = channel(MAX_WAITING);
    let owner = Owner::App(app.name.clone());
    let storing = blocking(move || write(&apps, &owner, &name, replaces, messages));
    let (sent, stored) = futures::join!(send(form, sender), storing);
    // What was sent wrong is why it was not stored.
    sent?;
    stored?
}

/// Sends the files of a form. A receiver that has failed is not an error here.
async fn send(mut form: Form, sender: Sender<Message>) -> Result<(), ApiError> {
    let mut n_files = 0;
    while let Some(mut part) = form.next().await? {
        n_files += 1;
        if n_files > MAX_FILES {
            let message = format!("an adapter has at most {MAX_FILES} files");
            return Err(ApiError::bad_request("invalid_value", message));
        }
        let name = file_name(&part)?;
        let mut is_open = sender.send(Message::File(name)).await.is_ok();
        while let Some(bytes) = part.chunk().await? {
            is_open = is_open && sender.send(Message::Bytes(bytes)).await.is_ok();
        }
    }
    if n_files == 0 {
        return Err(ApiError::bad_request("invalid_value", "the form has no files"));
    }
    let _ = sender.send(Message::End).await;
    Ok(())
}

/// Name of a file: of the part's file, or of the field if it has none.
fn file_name(part: &Part<'_>) -> Result<FileName, ApiError> {
    let name = part.file_name().unwrap_or(part.name());
    Ok(name.parse().map_err(RegistryError::from)?)
}

fn write(
    apps: &Apps,
    owner: &Owner,
    name: &AdapterName,
    replaces: Option<u64>,
    mut messages: Receiver<Message>,
) -> Result<StoredAdapter, ApiError> {
    let mut staged = apps.registry().staged_dir()?;
    let mut next = messages.blocking_recv();
    loop {
        next = match next {
            Some(Message::File(name)) => {
                if staged.path().join(name.as_str()).exists() {
                    let message = format!("the file `{name}` is sent twice");
                    return Err(ApiError::bad_request("invalid_value", message));
                }
                let mut file = staged.file(name.as_str()).map_err(unwritten)?;
                let after = loop {
                    match messages.blocking_recv() {
                        Some(Message::Bytes(bytes)) => file.write_all(&bytes).map_err(unwritten)?,
                        other => break other,
                    }
                };
                file.flush().map_err(unwritten)?;
                after
            }
            Some(Message::End) => break,
            // The sender says why.
            Some(Message::Bytes(_)) | None => return Err(ApiError::broken_body()),
        };
    }
    apps.adapters.load(staged.path()).map_err(|reason| {
        ApiError::bad_request(
            "invalid_adapter",
            format!("the adapter `{name}` is refused: {reason}"),
        )
    })?;
    let foundation = apps.adapters.foundation().to_owned();
    let provenance = Provenance { foundation, plan: None, data: None, metrics: Value::Null };
    let dir = staged.path();
    let new = NewAdapter { owner, name, dir, provenance: &provenance, replaces };
    Ok(apps.registry().put_adapter(&new)?)
}

fn unwritten(reason: io::Error) -> ApiError {
    RegistryError::Storage { reason: reason.to_string() }.into()
}

use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request, State as Extract};
use axum::http::{StatusCode, header};
use litemoe_registry::{FileName, RegistryError, Upload};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::app_caller::AppCaller;
use crate::api::body;
use crate::api::error::ApiError;
use crate::api::files::{PURPOSE, shown};
use crate::state::Shared;

/// Maximum bytes of an upload's body besides those of the file.
const OVERHEAD: u64 = 64 << 10;

/// Maximum bytes of a purpose.
const MAX_PURPOSE: usize = 64;

/// Maximum bytes of a refused upload that are read and discarded.
const MAX_DISCARDED: usize = 64 << 20;

/// Parts of an upload.
#[derive(Debug, Default)]
struct Parts {
    file: Option<(FileName, Upload)>,
    purpose: Option<String>,
}

/// `POST /v1/files`
pub(crate) async fn upload(
    Extract(state): Shared,
    caller: AppCaller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (max, time) = (state.options.limits.max_upload, state.options.timeouts.body);
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > max.saturating_add(OVERHEAD)) {
        body::refuse(request, &state).await;
        return Err(too_large(max));
    }
    let multipart = Multipart::from_request(request, &()).await;
    let mut multipart = multipart.map_err(|refused| {
        ApiError::bad_request("invalid_body", format!("the body is no form: {refused}"))
    })?;
    let parts = match receive(&mut multipart, &caller, max, time).await {
        Ok(parts) => parts,
        Err(refusal) => {
            let _ = timeout_at(Instant::now() + time, discard(&mut multipart)).await;
            return Err(refusal);
        }
    };
    let Parts { file, purpose } = parts;
    let missing = |name: &str| {
        ApiError::bad_request("missing_required_parameter", format!("`{name}` is missing")).of(name)
    };
    purpose.ok_or_else(|| missing("purpose"))?;
    let (name, upload) = file.ok_or_else(|| missing("file"))?;
    if upload.bytes() == 0 {
        return Err(ApiError::bad_request("invalid_value", "`file` is empty").of("file"));
    }
    caller
        .run(move |registry, app| Ok(Json(shown(&registry.add_file(app, &name, PURPOSE, upload)?))))
        .await
}

/// Reads the parts, and writes the file's bytes to the registry as they come.
async fn receive(
    multipart: &mut Multipart,
    caller: &AppCaller,
    max: u64,
    time: Duration,
) -> Result<Parts, ApiError> {
    let mut parts = Parts::default();
    while let Some(field) = within(time, multipart.next_field()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        let is_again = match &*name {
            "file" => parts.file.is_some(),
            "purpose" => parts.purpose.is_some(),
            _ => {
                let message = format!("`{name}` is not a known parameter");
                return Err(ApiError::bad_request("unknown_parameter", message).of(name));
            }
        };
        if is_again {
            let message = format!("`{name}` is given twice");
            return Err(ApiError::bad_request("invalid_value", message).of(name));
        }
        match &*name {
            "file" => {
                let given = field.file_name().unwrap_or_default().parse();
                let file_name: FileName = given.map_err(|error: litemoe_registry::FileNameError| {
                    ApiError::bad_request("invalid_value", error.to_string()).of("file")
                })?;
                parts.file = Some((file_name, store(field, caller, max, time).await?));
            }
            _ => parts.purpose = Some(purpose(field, time).await?),
        }
    }
    Ok(parts)
}

/// Writes a file's bytes to the registry, where nothing refers to them yet.
async fn store(
    mut field: Field<'_>,
    caller: &AppCaller,
    max: u64,
    time: Duration,
) -> Result<Upload, ApiError> {
    let mut upload = caller.run(|registry, _| Ok(registry.upload()?)).await?;
    while let Some(chunk) = within(time, field.chunk()).await? {
        if upload.bytes().saturating_add(chunk.len() as u64) > max {
            return Err(too_large(max));
        }
        let written = spawn_blocking(move || upload.write_all(&chunk).map(|()| upload)).await;
        upload = written.map_err(|_| ApiError::failed())?.map_err(unwritten)?;
    }
    Ok(upload)
}

async fn purpose(mut field: Field<'_>, time: Duration) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = within(time, field.chunk()).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_PURPOSE {
            break;
        }
    }
    match String::from_utf8(bytes) {
        Ok(purpose) if purpose == PURPOSE => Ok(purpose),
        _ => {
            let message = format!("`purpose` is not `{PURPOSE}`, the only one that is supported");
            Err(ApiError::bad_request("unsupported_parameter", message).of("purpose"))
        }
    }
}

/// Waits for the next part of a body, which must come in time.
async fn within<T>(
    time: Duration,
    next: impl Future<Output = Result<Option<T>, MultipartError>>,
) -> Result<Option<T>, ApiError> {
    let next = timeout(time, next).await.map_err(|_| ApiError::too_slow(time))?;
    next.map_err(|error| {
        ApiError::bad_request("invalid_body", format!("the body is malformed: {}", error.body_text()))
    })
}

/// Reads the rest of a refused upload: a client that cannot send it does not read the refusal.
async fn discard(multipart: &mut Multipart) {
    let mut left = MAX_DISCARDED;
    while let Ok(Some(mut field)) = multipart.next_field().await {
        while let Ok(Some(chunk)) = field.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    }
}

fn too_large(max: u64) -> ApiError {
    let message = format!("the file has more than {max} bytes");
    ApiError::coded(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message).of("file")
}

fn unwritten(error: io::Error) -> ApiError {
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            RegistryError::Storage { reason }.into()
        }
        _ => RegistryError::ReadOnly { reason }.into(),
    }
}

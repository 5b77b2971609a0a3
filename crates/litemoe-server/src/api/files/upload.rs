use std::io::Write;

use axum::Json;
use axum::extract::{Request, State as Extract};
use litemoe_registry::{FileName, FileNameError, Upload};
use serde_json::Value;

use crate::api::app_caller::AppCaller;
use crate::api::blocking::blocking;
use crate::api::error::ApiError;
use crate::api::files::{PURPOSE, shown};
use crate::api::multipart::{Form, Part};
use crate::api::registry_error::unwritten;
use crate::state::Shared;

/// Fields of an upload.
#[derive(Debug, Default)]
struct Fields {
    file: Option<(FileName, Upload)>,
    has_purpose: bool,
}

/// `POST /v1/files`
pub(crate) async fn upload(
    Extract(state): Shared,
    caller: AppCaller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let mut form = Form::of(request, &state).await?;
    let fields = match receive(&mut form, &caller).await {
        Ok(fields) => fields,
        Err(refusal) => {
            form.discard().await;
            return Err(refusal);
        }
    };
    let (name, upload) = fields.file.ok_or_else(|| ApiError::missing("file"))?;
    if !fields.has_purpose {
        return Err(ApiError::missing("purpose"));
    }
    if upload.bytes() == 0 {
        return Err(ApiError::bad_request("invalid_value", "`file` is empty").of("file"));
    }
    caller
        .run(move |registry, app| Ok(Json(shown(&registry.add_file(app, &name, PURPOSE, upload)?))))
        .await
}

/// Reads the fields.
async fn receive(form: &mut Form, caller: &AppCaller) -> Result<Fields, ApiError> {
    let mut fields = Fields::default();
    while let Some(part) = form.next().await? {
        match part.name() {
            "file" if fields.file.is_some() => return Err(ApiError::twice("file")),
            "purpose" if fields.has_purpose => return Err(ApiError::twice("purpose")),
            "file" => {
                let name = part.file_name().unwrap_or_default().parse();
                let name = name.map_err(|error: FileNameError| {
                    ApiError::bad_request("invalid_value", error.to_string()).of("file")
                })?;
                fields.file = Some((name, store(part, caller).await?));
            }
            "purpose" => {
                if part.text().await? != PURPOSE {
                    let message =
                        format!("`purpose` is not `{PURPOSE}`, the only one that is supported");
                    let refusal = ApiError::bad_request("unsupported_parameter", message);
                    return Err(refusal.of("purpose"));
                }
                fields.has_purpose = true;
            }
            other => return Err(ApiError::unknown_parameter(other)),
        }
    }
    Ok(fields)
}

/// Writes a file's bytes to the registry as they come; nothing refers to them yet.
async fn store(mut part: Part<'_>, caller: &AppCaller) -> Result<Upload, ApiError> {
    let mut upload = caller.run(|registry, _| Ok(registry.upload()?)).await?;
    while let Some(chunk) = part.chunk().await? {
        let written = blocking(move || upload.write_all(&chunk).map(|()| upload)).await?;
        upload = written.map_err(|error| unwritten(&error))?;
    }
    Ok(upload)
}

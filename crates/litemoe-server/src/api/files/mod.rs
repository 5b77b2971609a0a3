//! Files that apps upload: `/v1/files`.

mod content;
mod upload;

use axum::Json;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use litemoe_registry::StoredFile;
use serde_json::{Value, json};

pub(crate) use self::content::content;
pub(crate) use self::upload::upload;
use crate::api::app_caller::AppCaller;
use crate::api::error::ApiError;
use crate::api::id::Id;
use crate::api::query::{Listed, Query};

/// The purpose of every file.
const PURPOSE: &str = "fine-tune";

/// Number of files in a part of the list without `limit`, and maximum.
const LISTED: u32 = 100;
const MAX_LISTED: u32 = 10_000;

/// `GET /v1/files`
pub(crate) async fn list(caller: AppCaller, RawQuery(query): RawQuery) -> Result<Listed, ApiError> {
    let mut query = Query::parse(query.as_deref())?;
    let part = query.ordered_part(LISTED, MAX_LISTED)?;
    let is_other = query.take("purpose").is_some_and(|purpose| purpose != PURPOSE);
    query.finish()?;
    if is_other {
        return Ok(Listed { data: Vec::new(), has_more: false });
    }
    caller
        .run(move |registry, app| {
            let (files, has_more) = part.read(|page| registry.files(app, page))?;
            Ok(Listed { data: files.iter().map(shown).collect(), has_more })
        })
        .await
}

/// `GET /v1/files/{id}`
pub(crate) async fn one(caller: AppCaller, Id(id): Id) -> Result<Json<Value>, ApiError> {
    caller.run(move |registry, app| Ok(Json(shown(&registry.file(app, &id)?)))).await
}

/// `DELETE /v1/files/{id}`
pub(crate) async fn remove(caller: AppCaller, Id(id): Id) -> Result<Response, ApiError> {
    caller
        .run(move |registry, app| {
            registry.remove_file(app, &id)?;
            Ok(Json(json!({ "id": id, "object": "file", "deleted": true })).into_response())
        })
        .await
}

fn shown(file: &StoredFile) -> Value {
    json!({
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created.0,
        "expires_at": null,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": null,
    })
}

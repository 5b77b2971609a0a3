use std::sync::Arc;

use axum::extract::{Path, Request, State as Extract};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use litemoe_registry::{AdapterName, App, Owner, StoredAdapter};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::api::error::ApiError;
use crate::api::received_adapter;
use crate::apps::Apps;
use crate::caller::Caller;
use crate::state::{Shared, State};

/// `GET /v1/adapters`: those of the registry that the app may use.
pub(crate) async fn list(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let (apps, app) = of_app(&state, &caller)?;
    let usable = blocking(move || apps.adapters.all_usable(&app)).await??;
    Ok(Json(json!({ "object": "list", "data": usable.iter().map(card).collect::<Vec<_>>() })))
}

/// `GET /v1/adapters/{name}`: the app's own, or a shared one.
pub(crate) async fn one(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let (apps, app) = of_app(&state, &caller)?;
    let found = blocking({
        let name = name.clone();
        move || apps.adapters.usable(&app, &name)
    });
    let adapter = found.await??.ok_or_else(|| ApiError::no_adapter(&name))?;
    Ok(with_tag(StatusCode::OK, &adapter))
}

/// `PUT /v1/adapters/{name}`: stores the files of a form as an adapter of the app. It replaces the generation that
/// `If-Match` names; without, there must be none of the name.
pub(crate) async fn put(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (apps, app) = of_app(&state, &caller)?;
    let name: AdapterName = name.parse().map_err(litemoe_registry::RegistryError::from)?;
    if name.as_str() == state.models.foundation().name {
        let message = format!("`{name}` is the name of the foundation");
        return Err(ApiError::bad_request("invalid_value", message));
    }
    let replaces = generation(request.headers())?;
    let adapter = received_adapter::store(&state, apps, &app, name, replaces, request).await?;
    let status = if replaces.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(with_tag(status, &adapter))
}

/// `DELETE /v1/adapters/{name}`: removes an adapter of the app, of the generation that `If-Match` names if it does.
pub(crate) async fn remove(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    remove_own(&state, &caller, &name, generation(&headers)?).await?;
    Ok(Json(json!({ "id": name, "object": "adapter", "deleted": true })))
}

/// `DELETE /v1/models/{id}`: the same as OpenAI's API has it for fine-tuned models.
pub(crate) async fn remove_model(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    remove_own(&state, &caller, &id, None).await?;
    Ok(Json(json!({ "id": id, "object": "model", "deleted": true })))
}

async fn remove_own(
    state: &State,
    caller: &Caller,
    name: &str,
    generation: Option<u64>,
) -> Result<(), ApiError> {
    let (apps, app) = of_app(state, caller)?;
    let parsed = name.parse().map_err(|_| ApiError::no_adapter(name))?;
    let owner = Owner::App(app.name.clone());
    Ok(blocking(move || apps.registry().remove_adapter(&owner, &parsed, generation)).await??)
}

/// The registry and the caller's app in it.
pub(crate) fn of_app(state: &State, caller: &Caller) -> Result<(Arc<Apps>, Arc<App>), ApiError> {
    match (&state.apps, caller.app()) {
        (Some(apps), Some(app)) => Ok((apps.clone(), app.clone())),
        _ => Err(ApiError::needs_app()),
    }
}

/// Runs what may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(work).await.map_err(|_| ApiError::failed())
}

fn with_tag(status: StatusCode, adapter: &StoredAdapter) -> Response {
    let tag = HeaderValue::try_from(format!("\"{}\"", adapter.generation)).expect("digits");
    (status, [(header::ETAG, tag)], Json(card(adapter))).into_response()
}

fn card(adapter: &StoredAdapter) -> Value {
    let StoredAdapter { owner, name, generation, provenance, created, updated, files } = adapter;
    let files = files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "sha256": file.sha256 }));
    json!({
        "id": name, "object": "adapter", "owner": owner, "generation": generation,
        "created_at": created, "updated_at": updated, "plan": provenance.plan,
        "metrics": provenance.metrics, "files": files.collect::<Vec<_>>(),
    })
}

/// The generation of the `If-Match` header: one entity tag.
fn generation(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let mut given = headers.get_all(header::IF_MATCH).iter();
    let Some(tag) = given.next() else { return Ok(None) };
    let tag = tag.to_str().ok().map(|tag| tag.trim_matches('"')).and_then(|tag| tag.parse().ok());
    match (tag, given.next()) {
        (Some(generation), None) => Ok(Some(generation)),
        _ => {
            let message = "`If-Match` is not a generation, such as `\"7\"`";
            Err(ApiError::bad_request("invalid_value", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_one_entity_tag() {
        let of = |tags: &[&str]| {
            let header = |tag: &&str| (header::IF_MATCH, HeaderValue::from_str(tag).unwrap());
            generation(&tags.iter().map(header).collect()).ok()
        };
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&["\"7\""]), Some(Some(7)));
        assert_eq!(of(&["7"]), Some(Some(7)));
        for tags in [&["*"][..], &["\"7\", \"8\""], &["\"7\"", "\"7\""], &["W/\"7\""], &["-1"]] {
            assert_eq!(of(tags), None, "{tags:?}");
        }
    }
}

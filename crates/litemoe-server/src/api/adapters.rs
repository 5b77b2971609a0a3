use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use litemoe_registry::{AdapterFile, AdapterName, App, Owner, RegistryError, StoredAdapter};
use serde_json::{Value, json};

use crate::api::blocking::blocking;
use crate::api::error::ApiError;
use crate::api::id::Id;
use crate::api::{body, received_adapter};
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
    Id(name): Id,
) -> Result<Response, ApiError> {
    let (apps, app) = of_app(&state, &caller)?;
    let found = blocking({
        let name = name.clone();
        move || apps.adapters.usable(&app, &name)
    });
    let adapter = found.await??.ok_or_else(|| ApiError::no_adapter(&name))?;
    Ok(with_tag(StatusCode::OK, &adapter))
}

/// `PUT /v1/adapters/{name}`: stores the files of a form as an adapter of the app. It replaces the content whose entity tag
/// `If-Match` has; without it, there must be none of the name.
pub(crate) async fn put(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Id(name): Id,
    request: Request,
) -> Result<Response, ApiError> {
    let (apps, app) = of_app(&state, &caller)?;
    let (name, replaces) = match target(&state, &apps, &app, &name, request.headers()).await {
        Ok(target) => target,
        Err(refusal) => {
            body::refuse(request, &state).await;
            return Err(refusal);
        }
    };
    let adapter = received_adapter::store(&state, apps, &app, name, replaces, request).await?;
    let status = if replaces.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(with_tag(status, &adapter))
}

/// The name of an adapter that is sent, and the generation that it replaces. Checked before the files are read, and again
/// when they are stored.
async fn target(
    state: &State,
    apps: &Arc<Apps>,
    app: &App,
    name: &str,
    headers: &HeaderMap,
) -> Result<(AdapterName, Option<u64>), ApiError> {
    let name: AdapterName = name.parse().map_err(RegistryError::from)?;
    if name.as_str() == state.models.foundation().name {
        let message = format!("`{name}` is the name of the foundation");
        return Err(ApiError::bad_request("invalid_value", message));
    }
    let expected = tag(headers)?;
    let found = own(apps, app, name.clone()).await?;
    match (expected, found) {
        (None, None) => Ok((name, None)),
        (None, Some(_)) => Err(ApiError::adapter_exists(&name)),
        (Some(expected), Some(found)) if found.tag == expected => {
            Ok((name, Some(found.generation)))
        }
        (Some(_), _) => Err(ApiError::other_content(&name)),
    }
}

/// The app's own adapter of a name.
async fn own(
    apps: &Arc<Apps>,
    app: &App,
    name: AdapterName,
) -> Result<Option<StoredAdapter>, ApiError> {
    let (apps, owner) = (apps.clone(), Owner::App(app.name.clone()));
    match blocking(move || apps.registry().adapter(&owner, &name)).await? {
        Ok(adapter) => Ok(Some(adapter)),
        Err(RegistryError::NoAdapter { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `DELETE /v1/adapters/{name}`: removes an adapter of the app, if it has the entity tag of `If-Match`, if there is one.
pub(crate) async fn remove(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Id(name): Id,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    remove_own(&state, &caller, &name, tag(&headers)?).await?;
    Ok(Json(json!({ "id": name, "object": "adapter", "deleted": true })))
}

/// `DELETE /v1/models/{id}`: the same as OpenAI's API has it for fine-tuned models.
pub(crate) async fn remove_model(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    remove_own(&state, &caller, &id, None).await?;
    Ok(Json(json!({ "id": id, "object": "model", "deleted": true })))
}

async fn remove_own(
    state: &State,
    caller: &Caller,
    name: &str,
    tag: Option<String>,
) -> Result<(), ApiError> {
    let (apps, app) = of_app(state, caller)?;
    let parsed: AdapterName = name.parse().map_err(|_| ApiError::no_adapter(name))?;
    let found = own(&apps, &app, parsed.clone()).await?;
    let generation = match (tag, found) {
        (Some(tag), Some(found)) if found.tag == tag => found.generation,
        (Some(_), _) => return Err(ApiError::other_content(&parsed)),
        (None, Some(found)) => found.generation,
        (None, None) => return Err(ApiError::no_adapter(name)),
    };
    let owner = Owner::App(app.name.clone());
    Ok(blocking(move || apps.registry().remove_adapter(&owner, &parsed, Some(generation)))
        .await??)
}

/// The registry and the caller's app in it.
pub(crate) fn of_app(state: &State, caller: &Caller) -> Result<(Arc<Apps>, Arc<App>), ApiError> {
    match (&state.apps, caller.app()) {
        (Some(apps), Some(app)) => Ok((apps.clone(), app.clone())),
        _ => Err(ApiError::needs_app()),
    }
}

fn with_tag(status: StatusCode, adapter: &StoredAdapter) -> Response {
    let tag = HeaderValue::try_from(format!("\"{}\"", adapter.tag)).expect("digits");
    (status, [(header::ETAG, tag)], Json(card(adapter))).into_response()
}

fn card(adapter: &StoredAdapter) -> Value {
    let StoredAdapter { owner, name, tag, provenance, created, updated, files, .. } = adapter;
    let file = |file: &AdapterFile| json!({ "name": file.name, "bytes": file.bytes, "sha256": file.sha256 });
    json!({
        "id": name, "object": "adapter", "owner": owner, "tag": tag,
        "created_at": created, "updated_at": updated, "plan": provenance.plan,
        "metrics": provenance.metrics, "files": files.iter().map(file).collect::<Vec<_>>(),
    })
}

/// The entity tag of the `If-Match` header.
fn tag(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut given = headers.get_all(header::IF_MATCH).iter();
    let Some(tag) = given.next() else { return Ok(None) };
    let tag = tag.to_str().ok().and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
    match (tag, given.next()) {
        (Some(tag), None) if !tag.contains('"') => Ok(Some(tag.to_owned())),
        _ => {
            let message = "`If-Match` is not one entity tag, such as `\"0f3a\"`";
            Err(ApiError::bad_request("invalid_value", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_in_quotes_and_the_only_one() {
        let of = |tags: &[&str]| {
            let header = |tag: &&str| (header::IF_MATCH, HeaderValue::from_str(tag).unwrap());
            tag(&tags.iter().map(header).collect()).ok()
        };
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&["\"0f\""]), Some(Some("0f".to_owned())));
        for tags in
            [&["*"][..], &["0f"], &["\"7\", \"8\""], &["\"7\"", "\"7\""], &["W/\"7\""], &["\""]]
        {
            assert_eq!(of(tags), None, "{tags:?}");
        }
    }
}

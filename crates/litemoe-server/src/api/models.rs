use axum::extract::State as Extract;
use axum::{Extension, Json};
use litemoe_registry::StoredAdapter;
use serde_json::{Value, json};

use crate::api::blocking::blocking;
use crate::api::error::ApiError;
use crate::api::id::Id;
use crate::api::served;
use crate::caller::Caller;
use crate::models::Served;
use crate::state::{Shared, State};

/// `GET /v1/models`: those that the caller may use.
pub(crate) async fn list(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let stored = match (&state.apps, caller.app().cloned()) {
        (Some(apps), Some(app)) => {
            let adapters = apps.adapters.clone();
            blocking(move || adapters.all_usable(&app)).await??
        }
        _ => Vec::new(),
    };
    let foundation = &state.models.foundation().name;
    let is_listed = |served: &&Served| match served.mounted {
        None => caller.may_use_model(&served.name),
        Some(_) => {
            let is_hidden = stored.iter().any(|adapter| adapter.name.as_str() == served.name);
            caller.may_use_shared(&served.name) && !is_hidden
        }
    };
    let fixed = state.models.iter().filter(is_listed);
    let stored = stored.iter().filter(|adapter| adapter.name.as_str() != foundation);
    let data: Vec<_> = fixed
        .map(|served| card(&state, served))
        .chain(stored.map(|adapter| card_of(&state, adapter)))
        .collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

/// `GET /v1/models/{id}`
pub(crate) async fn one(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let foundation = state.models.foundation();
    if id == foundation.name && caller.may_use_model(&id) {
        return Ok(Json(card(&state, foundation)));
    }
    if let Some(apps) = state.apps.as_ref().filter(|_| id != foundation.name)
        && let Some(adapter) = served::stored(apps, &caller, &id).await?
    {
        return Ok(Json(card_of(&state, &adapter)));
    }
    let fixed = state.models.adapter(&id).filter(|_| caller.may_use_shared(&id));
    fixed.map(|served| Json(card(&state, served))).ok_or_else(|| ApiError::unknown_model(&id))
}

fn card(state: &State, served: &Served) -> Value {
    let foundation = &state.models.foundation().name;
    json!({
        "id": served.name, "object": "model", "created": state.created, "owned_by": "litemoe",
        "root": foundation, "parent": served.mounted.as_ref().map(|_| foundation),
    })
}

/// Of an adapter of the registry.
fn card_of(state: &State, adapter: &StoredAdapter) -> Value {
    let foundation = &state.models.foundation().name;
    let owner = serde_json::to_value(&adapter.owner).ok().filter(|owner| !owner.is_null());
    json!({
        "id": adapter.name, "object": "model", "created": adapter.created.0,
        "owned_by": owner.unwrap_or_else(|| "litemoe".into()),
        "root": foundation, "parent": foundation,
    })
}

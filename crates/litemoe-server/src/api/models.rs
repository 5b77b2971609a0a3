use axum::Json;
use axum::extract::{Path, State as Extract};
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::registry::Served;
use crate::state::{Shared, State};

/// `GET /v1/models`
pub(crate) async fn list(Extract(state): Shared) -> Json<Value> {
    let data: Vec<_> = state.registry.iter().map(|served| card(&state, served)).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// `GET /v1/models/{id}`
pub(crate) async fn one(
    Extract(state): Shared,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let served = state.registry.find(&id).ok_or_else(|| ApiError::unknown_model(&id))?;
    Ok(Json(card(&state, served)))
}

fn card(state: &State, served: &Served) -> Value {
    let foundation = state.registry.foundation();
    json!({
        "id": served.name, "object": "model", "created": state.created, "owned_by": "litemoe",
        "root": foundation, "parent": served.mounted.as_ref().map(|_| foundation),
    })
}

use axum::extract::{Request, State as Extract};

use crate::api::body;
use crate::api::error::ApiError;
use crate::state::Shared;

/// `POST /v1/embeddings`: refused, because no served model gives embeddings.
pub(crate) async fn refuse(Extract(state): Shared, request: Request) -> ApiError {
    match body::read(request, &state).await {
        Ok(_) => ApiError::no_embeddings(),
        Err(error) => error,
    }
}

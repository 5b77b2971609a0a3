use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::error::ApiError;
use crate::state::Shared;

/// `GET /metrics`, if it is served.
pub(crate) async fn text(State(state): Shared) -> Result<Response, ApiError> {
    if !state.options.metrics {
        return Err(ApiError::no_such_path());
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], state.engine.metrics()).into_response())
}

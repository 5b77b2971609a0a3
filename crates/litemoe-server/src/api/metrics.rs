use axum::extract::State as Extract;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use crate::api::authenticate;
use crate::api::blocking::blocking;
use crate::api::error::ApiError;
use crate::state::{Shared, State};

/// `GET /metrics`, if it is served to the client. They are totals, but from them an app could learn how much others use.
pub(crate) async fn text(Extract(state): Shared, headers: HeaderMap) -> Result<Response, ApiError> {
    if !(state.options.metrics && is_allowed(&state, &headers).await?) {
        return Err(ApiError::no_such_path());
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], state.engine.metrics()).into_response())
}

async fn is_allowed(state: &State, headers: &HeaderMap) -> Result<bool, ApiError> {
    if let Some(token) = &state.options.metrics_token {
        return Ok(authenticate::key(headers).is_some_and(|key| token.is(&key)));
    }
    let Some(apps) = state.apps.clone() else { return Ok(true) };
    Ok(!blocking(move || apps.asks_for_keys()).await??)
}

use std::time::Duration;

use axum::extract::{Request, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::ServerOptions;
use crate::api::body;
use crate::api::error::ApiError;

/// What the routes need to know.
#[derive(Debug, Clone)]
struct Times {
    retry_after: Duration,
    body: Duration,
}

/// Routes while the model is loaded: all of them answer 503.
pub(crate) fn routes(options: &ServerOptions) -> Router {
    let times = Times { retry_after: options.retry_after, body: options.timeouts.body };
    Router::new().route("/health", get(health)).fallback(refuse).with_state(times)
}

async fn health(Extract(times): Extract<Times>) -> impl IntoResponse {
    let headers = [(header::RETRY_AFTER, times.retry_after.as_secs())];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(json!({ "status": "loading" })))
}

async fn refuse(Extract(times): Extract<Times>, request: Request) -> ApiError {
    body::skip(request, times.body).await;
    ApiError::loading(times.retry_after)
}

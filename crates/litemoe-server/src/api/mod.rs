//! HTTP API, compatible with OpenAI's clients.

mod answer;
mod body;
mod call;
mod calls;
mod chat;
mod completion_request;
mod completions;
mod continuation;
mod error;
mod fields;
pub(crate) mod guard;
mod log;
mod messages;
mod metrics;
mod models;
mod neutral;
mod parameters;
mod prompt;
mod reply;
mod request;
mod request_id;
mod sampling;
mod shape;
mod shorten;
mod stream;
mod tools;
mod usage;
mod values;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, extract};
use serde_json::json;

use crate::state::{Shared, State};
use error::ApiError;
use guard::Guard;

pub(crate) fn router(state: State, guard: Guard) -> Router {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics::text))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .fallback(|| async { ApiError::no_such_path() })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .with_state(Arc::new(state));
    let routes = match guard.cors() {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .layer(middleware::from_fn(log::log))
}

async fn health(extract::State(state): Shared) -> Response {
    match state.engine.is_running() {
        true => Json(json!({ "status": "ok" })).into_response(),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "stopped" }))).into_response()
        }
    }
}

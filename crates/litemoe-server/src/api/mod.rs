//! HTTP API, compatible with OpenAI's clients.

mod adapters;
mod admit;
mod answer;
mod authenticate;
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
mod multipart;
mod neutral;
mod parameters;
mod prompt;
mod received_adapter;
mod registry_error;
mod reply;
mod request;
mod request_id;
mod sampling;
mod served;
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
    let state = Arc::new(state);
    // Requests to the model, which count for an app's limits.
    let generating = Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route_layer(middleware::from_fn_with_state(state.clone(), admit::admit));
    let uploading = Router::new()
        .route(
            "/v1/adapters/{name}",
            get(adapters::one).put(adapters::put).delete(adapters::remove),
        )
        .layer(multipart::without_limit());
    let of_callers = Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one).delete(adapters::remove_model))
        .route("/v1/adapters", get(adapters::list))
        .merge(generating)
        .merge(uploading)
        .route_layer(middleware::from_fn_with_state(state.clone(), authenticate::authenticate));
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics::text))
        .merge(of_callers)
        .fallback(|| async { ApiError::no_such_path() })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .with_state(state);
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

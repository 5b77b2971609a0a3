//! HTTP API, compatible with OpenAI's clients.

mod adapters;
mod admit;
mod answer;
mod app_caller;
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
mod files;
pub(crate) mod guard;
mod log;
mod messages;
mod metrics;
mod models;
mod multipart;
mod neutral;
mod parameters;
mod prompt;
mod query;
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
mod tuning;
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
        .route("/v1/files", get(files::list).post(files::upload))
        .layer(multipart::without_limit());
    let jobs = Router::new()
        .route("/v1/fine_tuning/jobs", get(tuning::list).post(tuning::create))
        .route("/v1/fine_tuning/jobs/{id}", get(tuning::one))
        .route("/v1/fine_tuning/jobs/{id}/cancel", post(tuning::cancel))
        .route("/v1/fine_tuning/jobs/{id}/events", get(tuning::events))
        .route("/v1/fine_tuning/jobs/{id}/checkpoints", get(tuning::checkpoints));
    let of_callers = Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one).delete(adapters::remove_model))
        .route("/v1/adapters", get(adapters::list))
        .route("/v1/files/{id}", get(files::one).delete(files::remove))
        .route("/v1/files/{id}/content", get(files::content))
        .merge(jobs)
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

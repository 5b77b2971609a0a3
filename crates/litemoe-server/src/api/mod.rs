//! HTTP API, compatible with OpenAI's clients.

mod answer;
mod body;
mod call;
mod calls;
mod chat;
mod completion_request;
mod completions;
mod continuation;
mod detokenize;
mod embeddings;
mod ending;
mod error;
mod fields;
pub(crate) mod guard;
mod loading;
mod log;
mod messages;
mod metrics;
mod models;
mod neutral;
mod openapi;
mod page;
mod parameters;
mod prompt;
mod reply;
mod request;
mod request_id;
mod sampling;
mod shape;
mod shorten;
mod stream;
mod token_ids;
mod tokenize;
mod tokenize_request;
mod tools;
mod usage;
mod values;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, extract};
use serde_json::json;

use crate::ServerOptions;
use crate::state::{Shared, State};
use error::ApiError;
use guard::Guard;

/// The routes: methods and paths, and their handlers.
fn routes() -> Vec<(Method, &'static str, MethodRouter<Arc<State>>)> {
    vec![
        (Method::GET, "/", get(page::page)),
        (Method::GET, "/openapi.json", get(openapi::document)),
        (Method::GET, "/health", get(health)),
        (Method::GET, "/metrics", get(metrics::text)),
        (Method::GET, "/v1/models", get(models::list)),
        (Method::GET, "/v1/models/{*id}", get(models::one)),
        (Method::POST, "/v1/chat/completions", post(chat::complete)),
        (Method::POST, "/v1/completions", post(completions::complete)),
        (Method::POST, "/v1/embeddings", post(embeddings::refuse)),
        (Method::POST, "/tokenize", post(tokenize::tokenize)),
        (Method::POST, "/v1/tokenize", post(tokenize::tokenize)),
        (Method::POST, "/detokenize", post(detokenize::detokenize)),
        (Method::POST, "/v1/detokenize", post(detokenize::detokenize)),
    ]
}

pub(crate) fn router(state: State, guard: Guard) -> Router {
    let all = routes().into_iter();
    let routes = all
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .fallback(|| async { ApiError::no_such_path() })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .with_state(Arc::new(state));
    guarded(routes, guard)
}

/// The routes before the server is there.
pub(crate) fn loading(guard: Guard, options: &ServerOptions) -> Router {
    guarded(loading::routes(options), guard)
}

/// Routes with a guard and the request log.
fn guarded(routes: Router, guard: Guard) -> Router {
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

//! HTTP API, compatible with OpenAI's clients.

mod adapters;
mod admit;
mod answer;
mod app_caller;
mod app_error;
mod archive;
mod authenticate;
mod blocking;
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
mod files;
pub(crate) mod guard;
mod id;
mod loading;
mod log;
mod messages;
mod metrics;
mod models;
mod multipart;
mod neutral;
mod openapi;
mod paced_body;
mod page;
mod parameters;
mod prompt;
mod query;
mod received_adapter;
mod registry_error;
mod reply;
mod request;
mod request_id;
mod sampling;
mod scores;
mod served;
mod shape;
mod shorten;
mod stream;
mod streamed;
mod token_ids;
mod tokenize;
mod tokenize_request;
mod tools;
mod tuning;
mod upload;
mod usage;
mod values;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router, extract};
use serde_json::json;

use crate::ServerOptions;
use crate::state::{Shared, State};
use error::ApiError;
use guard::Guard;

/// Whose requests a route takes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anyone's.
    Anyone,
    /// Those of callers, with a key where keys are asked for.
    Caller,
    /// Theirs to the model, for weights of it, or to the tokenizer, which count for an app's limits.
    Generation,
    /// Theirs with files, whose limit is that of uploads.
    Upload,
}

/// A method, a path, whose requests it takes, and its handler.
type Route = (Method, &'static str, Access, MethodRouter<Arc<State>>);

/// All routes.
fn routes() -> Vec<Route> {
    use Access::{Anyone, Caller, Generation, Upload};
    vec![
        (Method::GET, "/", Anyone, get(page::page)),
        (Method::GET, "/openapi.json", Anyone, get(openapi::document)),
        (Method::GET, "/health", Anyone, get(health)),
        (Method::GET, "/metrics", Anyone, get(metrics::text)),
        (Method::GET, "/v1/models", Caller, get(models::list)),
        (Method::GET, "/v1/models/{*id}", Caller, get(models::one)),
        (Method::DELETE, "/v1/models/{*id}", Caller, delete(adapters::remove_model)),
        (Method::POST, "/v1/chat/completions", Generation, post(chat::complete)),
        (Method::POST, "/v1/completions", Generation, post(completions::complete)),
        (Method::POST, "/v1/embeddings", Caller, post(embeddings::refuse)),
        (Method::POST, "/tokenize", Generation, post(tokenize::tokenize)),
        (Method::POST, "/v1/tokenize", Generation, post(tokenize::tokenize)),
        (Method::POST, "/detokenize", Generation, post(detokenize::detokenize)),
        (Method::POST, "/v1/detokenize", Generation, post(detokenize::detokenize)),
        (Method::GET, "/v1/adapters", Caller, get(adapters::list)),
        (Method::GET, "/v1/adapters/{name}", Caller, get(adapters::one)),
        (Method::PUT, "/v1/adapters/{name}", Upload, put(adapters::put)),
        (Method::DELETE, "/v1/adapters/{name}", Caller, delete(adapters::remove)),
        (Method::POST, "/v1/apps/me/scores", Generation, post(scores::extract)),
        (Method::GET, "/v1/files", Caller, get(files::list)),
        (Method::POST, "/v1/files", Upload, post(files::upload)),
        (Method::GET, "/v1/files/{id}", Caller, get(files::one)),
        (Method::DELETE, "/v1/files/{id}", Caller, delete(files::remove)),
        (Method::GET, "/v1/files/{id}/content", Caller, get(files::content)),
        (Method::GET, "/v1/fine_tuning/jobs", Caller, get(tuning::list)),
        (Method::POST, "/v1/fine_tuning/jobs", Caller, post(tuning::create)),
        (Method::GET, "/v1/fine_tuning/jobs/{id}", Caller, get(tuning::one)),
        (Method::POST, "/v1/fine_tuning/jobs/{id}/cancel", Caller, post(tuning::cancel)),
        (Method::GET, "/v1/fine_tuning/jobs/{id}/events", Caller, get(tuning::events)),
        (Method::GET, "/v1/fine_tuning/jobs/{id}/checkpoints", Caller, get(tuning::checkpoints)),
    ]
}

pub(crate) fn router(state: State, guard: Guard) -> Router {
    let state = Arc::new(state);
    let layer = |access: Access, handler: MethodRouter<Arc<State>>| {
        let admit = middleware::from_fn_with_state(state.clone(), admit::admit);
        let authenticate =
            middleware::from_fn_with_state(state.clone(), authenticate::authenticate);
        match access {
            Access::Anyone => handler,
            Access::Caller => handler.route_layer(authenticate),
            Access::Generation => handler.route_layer(admit).route_layer(authenticate),
            Access::Upload => {
                let receive = middleware::from_fn_with_state(state.clone(), upload::receive);
                let handler = handler.layer(multipart::without_limit());
                handler.route_layer(receive).route_layer(authenticate)
            }
        }
    };
    let all = routes().into_iter();
    let routes = all
        .fold(Router::new(), |router, (_, path, access, handler)| {
            router.route(path, layer(access, handler))
        })
        .fallback(|| async { ApiError::no_such_path() })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .with_state(state.clone());
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

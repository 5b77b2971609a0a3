//! HTTP client helpers.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use litemoe_server::{Server, ServerOptions};
use litemoe_text::Tokenizer;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::toy::{Toy, adapter, tokenizer};

/// A server of the toy model `toy`, and of the same with an adapter, `toy/app`.
pub(crate) fn serving(toy: Toy) -> Router {
    serving_with(toy, ServerOptions::default())
}

pub(crate) fn serving_with(toy: Toy, options: ServerOptions) -> Router {
    serving_by(toy, tokenizer(), options)
}

/// The same with another tokenizer.
pub(crate) fn serving_by(toy: Toy, tokenizer: Tokenizer, options: ServerOptions) -> Router {
    let server = Server::new("toy", toy, tokenizer, options).unwrap();
    server.with_adapter("toy/app", adapter()).unwrap().into_router()
}

/// A request with one message and further fields.
pub(crate) fn chat(fields: &Value) -> Value {
    let mut body = json!({ "model": "toy", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) async fn send(router: &Router, method: &str, path: &str, body: Body) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn post(router: &Router, body: &Value) -> Response<Body> {
    send(router, "POST", "/v1/chat/completions", Body::from(body.to_string())).await
}

pub(crate) async fn get(router: &Router, path: &str) -> Response<Body> {
    send(router, "GET", path, Body::empty()).await
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().into()).unwrap()
}

pub(crate) async fn read(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// The answer to a request that must succeed.
pub(crate) async fn answer(router: &Router, fields: &Value) -> Value {
    let response = post(router, &chat(fields)).await;
    assert_eq!(response.status(), 200);
    read(response).await
}

/// The text of an answer.
pub(crate) async fn content(router: &Router, fields: &Value) -> String {
    answer(router, fields).await["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// The chunks of a stream, which must be framed as server-sent events and end with `[DONE]`.
pub(crate) async fn chunks(router: &Router, fields: &Value) -> Vec<Value> {
    let response = post(router, &chat(fields)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = text(response).await;
    let frames = body.strip_suffix("data: [DONE]\n\n").unwrap().split_terminator("\n\n");
    frames
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

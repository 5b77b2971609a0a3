use axum::body::Body;
use litemoe_core::{BiasStage, LayerId, MountedAdapter, RouterBias};
use litemoe_server::{Server, ServerError, ServerOptions};
use serde_json::json;

use crate::client::{get, read, send, serving};
use crate::toy::{Toy, adapter, tokenizer};

#[tokio::test]
async fn the_foundation_and_its_adapters_are_listed() {
    let router = serving(Toy::saying("hi"));
    let list = read(get(&router, "/v1/models").await).await;
    let created = list["data"][0]["created"].as_u64().unwrap();
    assert!(created > 1_700_000_000);
    let model = |id, parent| {
        json!({ "id": id, "object": "model", "created": created, "owned_by": "litemoe", "root": "toy",
                "parent": parent })
    };
    let adapted = model("toy/app", Some("toy"));
    assert_eq!(list, json!({ "object": "list", "data": [model("toy", None), adapted] }));
    assert_eq!(read(get(&router, "/v1/models/toy/app").await).await, adapted);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_not_allowed_405() {
    let router = serving(Toy::saying("hi"));
    let unknown = get(&router, "/v1/models/none").await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(read(unknown).await["error"]["code"], "model_not_found");
    for (method, path, status) in
        [("GET", "/v2", 404), ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/models/toy", 405)]
    {
        let response = send(&router, method, path, Body::empty()).await;
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(read(response).await["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn embeddings_are_refused_by_what_they_are() {
    let router = serving(Toy::saying("hi"));
    let body = json!({ "model": "toy", "input": "hi" }).to_string();
    let response = send(&router, "POST", "/v1/embeddings", Body::from(body)).await;
    assert_eq!(response.status(), 400);
    let error = &read(response).await["error"];
    assert_eq!(error["code"], "unsupported");
    assert!(error["message"].as_str().unwrap().contains("no embeddings"), "{error}");
    let large = Body::from(vec![b' '; 3 << 20]);
    assert_eq!(send(&router, "POST", "/v1/embeddings", large).await.status(), 413);
}

#[tokio::test]
async fn health_is_ok() {
    let response = get(&serving(Toy::saying("hi")), "/health").await;
    assert_eq!(response.status(), 200);
    assert_eq!(read(response).await, json!({ "status": "ok" }));
}

#[test]
fn names_are_there_once_and_not_empty() {
    let server =
        |name: &str| Server::new(name, Toy::saying(""), tokenizer(), ServerOptions::default());
    assert!(matches!(server(""), Err(ServerError::NoName)));
    let add = |name: &str| server("toy").unwrap().with_adapter(name, adapter());
    assert!(matches!(add(""), Err(ServerError::NoName)));
    assert!(matches!(add("toy"), Err(ServerError::SameName { name }) if name == "toy"));
    let again = add("app").unwrap().with_adapter("app", adapter());
    assert!(matches!(again, Err(ServerError::SameName { name }) if name == "app"));
}

#[test]
fn a_routing_for_another_model_is_refused() {
    let layers = [(LayerId::decoder(3), vec![0.0, f32::NEG_INFINITY])].into();
    let bias = RouterBias::new(BiasStage::Logits, layers).unwrap();
    let mounted = MountedAdapter { router_bias: Some(bias), ..adapter() };
    let server = Server::new("toy", Toy::saying(""), tokenizer(), ServerOptions::default());
    let error = server.unwrap().with_adapter("app", mounted).unwrap_err().to_string();
    assert_eq!(
        error,
        "the adapter `app` does not fit the model: the router bias names layer 3, but the model has no experts there"
    );
}

//! The OpenAPI document against the server.

use axum::Router;
use axum::body::Body;
use serde_json::{Value, json};

use crate::client::{get, read, send, serving};
use crate::toy::Toy;

/// Values of all types, one of which is wrong for any field.
fn odd() -> [Value; 6] {
    [
        json!([{ "odd": 1 }]),
        json!({ "odd": [1] }),
        json!("\u{1}"),
        json!(0.5),
        json!(true),
        json!([]),
    ]
}

/// Fields of which any value is accepted.
const ANY: [&str; 4] = ["user", "metadata", "safety_identifier", "prompt_cache_key"];

async fn document(router: &Router) -> Value {
    let response = get(router, "/openapi.json").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    read(response).await
}

/// Names of a request's fields.
fn fields(document: &Value, name: &str) -> Vec<String> {
    let schemas = &document["components"]["schemas"];
    let own = &schemas[name]["allOf"][1]["properties"];
    let all = [&schemas["Parameters"]["properties"], own];
    all.iter().flat_map(|fields| fields.as_object().unwrap().keys().cloned()).collect()
}

async fn error(router: &Router, path: &str, body: &Value) -> Option<Value> {
    let response = send(router, "POST", path, Body::from(body.to_string())).await;
    match response.status().as_u16() {
        200 => None,
        400 | 404 => Some(read(response).await["error"].clone()),
        status => panic!("{status} {body}"),
    }
}

#[tokio::test]
async fn every_documented_field_is_known_and_a_wrong_value_is_refused_by_its_name() {
    let router = serving(Toy::saying("x"));
    let document = document(&router).await;
    for (schema, path, body) in [
        (
            "ChatRequest",
            "/v1/chat/completions",
            json!({ "model": "toy", "messages": [{ "role": "user", "content": "hi" }] }),
        ),
        ("CompletionRequest", "/v1/completions", json!({ "model": "toy", "prompt": "hi" })),
    ] {
        let fields = fields(&document, schema);
        assert!(fields.len() > 80, "{}", fields.len());
        for field in &fields {
            let with = |value: &Value| {
                let mut body = body.clone();
                body[field] = value.clone();
                body
            };
            let is_required = body.get(field).is_some();
            let missing = error(&router, path, &with(&Value::Null)).await;
            assert_eq!(missing.is_some(), is_required, "{field}: {missing:?}");
            let mut n_refused = 0;
            for value in odd() {
                let Some(error) = error(&router, path, &with(&value)).await else { continue };
                let param = error["param"].as_str().unwrap();
                let is_named = param == field
                    || param
                        .strip_prefix(field.as_str())
                        .is_some_and(|rest| rest.starts_with(['.', '[']));
                assert!(is_named, "{field} {value}: {error}");
                let is_known = error["code"] != "unknown_parameter" || param != field;
                assert!(is_known, "{field} {value}: {error}");
                n_refused += 1;
            }
            assert_eq!(n_refused > 0, !ANY.contains(&field.as_str()), "{field}");
        }
        let mut unknown = body.clone();
        unknown["undocumented"] = json!(1);
        let error = error(&router, path, &unknown).await.unwrap();
        assert_eq!(error["code"], "unknown_parameter");
    }
}

#[tokio::test]
async fn documented_constants_are_accepted() {
    let router = serving(Toy::saying("x"));
    let document = document(&router).await;
    for (schema, path, body) in [
        (
            "ChatRequest",
            "/v1/chat/completions",
            json!({ "model": "toy", "messages": [{ "role": "user", "content": "hi" }] }),
        ),
        ("CompletionRequest", "/v1/completions", json!({ "model": "toy", "prompt": "hi" })),
    ] {
        let schemas = &document["components"]["schemas"];
        let (mut body, mut n) = (body, 0);
        for properties in [&schemas["Parameters"], &schemas[schema]["allOf"][1]] {
            for (field, schema) in properties["properties"].as_object().unwrap() {
                let value = schema["enum"].as_array().map(|values| values[0].clone());
                if let Some(value) = value {
                    body[field] = value;
                    n += 1;
                }
            }
        }
        assert!(n > 25, "{n}");
        assert_eq!(error(&router, path, &body).await, None);
    }
}

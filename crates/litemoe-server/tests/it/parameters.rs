use axum::body::Body;
use serde_json::{Value, json};

use crate::client::{answer, chat, post, read, send, serving};
use crate::toy::Toy;

/// The error of a request that must be refused with 400.
async fn refused(fields: &Value) -> Value {
    let response = post(&serving(Toy::saying("x")), &chat(fields)).await;
    assert_eq!(response.status(), 400, "{fields}");
    let error = read(response).await["error"].clone();
    let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["message", "type", "param", "code"]);
    assert_eq!(error["type"], "invalid_request_error");
    let named = error["message"].as_str().unwrap().contains(error["param"].as_str().unwrap());
    assert!(named, "{error}");
    error
}

async fn expect(code: &str, cases: &[(Value, &str)]) {
    for (fields, param) in cases {
        let error = refused(fields).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{fields}");
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let message = |fields: Value| {
        let mut message = json!({ "role": "user", "content": "hi" });
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "messages": [message] })
    };
    expect(
        "unsupported_parameter",
        &[
            (json!({ "tool_choice": "any" }), "tool_choice"),
            (message(json!({ "tool_calls": [{}] })), "messages[0].tool_calls"),
            (
                message(json!({ "content": [{ "type": "image_url" }] })),
                "messages[0].content[0].type",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    expect(
        "invalid_type",
        &[
            (json!({ "model": 3 }), "model"),
            (json!({ "messages": "hi" }), "messages"),
            (json!({ "messages": ["hi"] }), "messages[0]"),
            (json!({ "messages": [{ "role": "user", "content": 3 }] }), "messages[0].content"),
            (json!({ "max_tokens": -1 }), "max_tokens"),
            (json!({ "max_tokens": "10" }), "max_tokens"),
            (json!({ "temperature": "hot" }), "temperature"),
            (json!({ "top_k": 1.5 }), "top_k"),
            (json!({ "seed": 1.5 }), "seed"),
            (json!({ "stop": 3 }), "stop"),
            (json!({ "stream": "yes" }), "stream"),
            (json!({ "n": "two" }), "n"),
            (json!({ "logprobs": 5 }), "logprobs"),
            (json!({ "logprobs": true, "top_logprobs": "all" }), "top_logprobs"),
            (json!({ "min_p": "0.1" }), "min_p"),
            (json!({ "logit_bias": [50] }), "logit_bias"),
            (json!({ "logit_bias": { "hi": 1 } }), "logit_bias"),
            (json!({ "logit_bias": { "-1": 1 } }), "logit_bias"),
            (json!({ "logit_bias": { "50": "1" } }), "logit_bias"),
            (json!({ "stream": true, "stream_options": true }), "stream_options"),
        ],
    )
    .await;
    expect(
        "invalid_value",
        &[
            (json!({ "messages": [] }), "messages"),
            (json!({ "tool_choice": "required" }), "tool_choice"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "max_tokens": 3, "max_completion_tokens": 4 }), "max_tokens"),
            (json!({ "temperature": 2.1 }), "temperature"),
            (json!({ "temperature": -0.1 }), "temperature"),
            (json!({ "temperature": 1e300 }), "temperature"),
            (json!({ "top_p": 1.1 }), "top_p"),
            (json!({ "top_k": -2 }), "top_k"),
            (json!({ "stop": ["a", ""] }), "stop"),
            (json!({ "n": 0 }), "n"),
            (json!({ "n": 129 }), "n"),
            (json!({ "top_logprobs": 5 }), "top_logprobs"),
            (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
            (json!({ "min_p": 1.1 }), "min_p"),
            (json!({ "repetition_penalty": 0 }), "repetition_penalty"),
            (json!({ "presence_penalty": 2.1 }), "presence_penalty"),
            (json!({ "frequency_penalty": -2.1 }), "frequency_penalty"),
            (json!({ "logit_bias": { "50": 101 } }), "logit_bias"),
            (json!({ "logit_bias": { "4096": 1 } }), "logit_bias"),
            (json!({ "stream_options": { "include_usage": true } }), "stream_options"),
        ],
    )
    .await;
    expect(
        "unknown_parameter",
        &[
            (json!({ "temprature": 1 }), "temprature"),
            (
                json!({ "stream": true, "stream_options": { "usage": true } }),
                "stream_options.usage",
            ),
            (json!({ "messages": [{ "role": "user", "content": "hi", "x": 1 }] }), "messages[0].x"),
        ],
    )
    .await;
    expect(
        "missing_required_parameter",
        &[
            (json!({ "model": null }), "model"),
            (json!({ "messages": null }), "messages"),
            (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
            (json!({ "messages": [{ "content": "hi" }] }), "messages[0].role"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_changes_nothing_is_accepted() {
    let fields = json!({
        "n": 1, "logprobs": false, "top_logprobs": 0, "tools": [], "tool_choice": "auto", "logit_bias": {},
        "presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1, "min_p": 0,
        "response_format": { "type": "text" }, "user": "someone", "stop": null, "seed": null, "top_k": -1,
        "max_tokens": 5, "max_completion_tokens": 5, "stream": false, "stream_options": null,
    });
    let answer = answer(&serving(Toy::saying("x")), &fields).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "x");
}

#[tokio::test]
async fn an_unknown_model_is_404() {
    let response = post(&serving(Toy::saying("x")), &chat(&json!({ "model": "gpt" }))).await;
    assert_eq!(response.status(), 404);
    let error = &read(response).await["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let router = serving(Toy::saying("x"));
    for body in ["", "{", "[]", "\"hi\"", "\u{0}"] {
        let response = send(&router, "POST", "/v1/chat/completions", Body::from(body)).await;
        assert_eq!(response.status(), 400, "{body:?}");
        assert_eq!(read(response).await["error"]["type"], "invalid_request_error");
    }
    let large = Body::from(vec![b' '; 3 << 20]);
    let response = send(&router, "POST", "/v1/chat/completions", large).await;
    assert_eq!(response.status(), 413);
    assert_eq!(read(response).await["error"]["type"], "invalid_request_error");
}

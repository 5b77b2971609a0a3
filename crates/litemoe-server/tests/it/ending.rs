//! Tokens that end a text: `stop_token_ids`, `min_tokens` and `ignore_eos`.

use axum::Router;
use axum::body::Body;
use serde_json::{Value, json};

use crate::client::{answer, chat, post, read, send, serving};
use crate::toy::{Step, Toy, tokens};

async fn choice(router: &Router, fields: &Value) -> (String, String, u64) {
    let answer = answer(router, fields).await;
    let choice = &answer["choices"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let n = answer["usage"]["completion_tokens"].as_u64().unwrap();
    (text(&choice["message"]["content"]), text(&choice["finish_reason"]), n)
}

#[tokio::test]
async fn a_stop_token_ends_the_text_and_is_no_part_of_it() {
    let router = serving(Toy::saying("a b c"));
    let ids = tokens("a b c");
    assert!(ids.len() > 2);
    let before = crate::toy::tokenizer().decode(&ids[..2]).unwrap();
    let fields = json!({ "stop_token_ids": [ids[2]] });
    assert_eq!(choice(&router, &fields).await, (before.clone(), "stop".to_owned(), 3));
    let fields = json!({ "stop_token_ids": [] });
    assert_eq!(choice(&router, &fields).await.0, "a b c");
    let body = json!({ "model": "toy", "prompt": "<|assistant|>", "stop_token_ids": [ids[2], 7] });
    let body = Body::from(body.to_string());
    let answer = read(send(&router, "POST", "/v1/completions", body).await).await;
    assert_eq!(answer["choices"][0]["text"], json!(before));
}

#[tokio::test]
async fn a_text_does_not_end_before_its_minimum() {
    // Every token is equally likely, so that the greedy one is the first: the end.
    let router = serving(Toy::doing(vec![Step::Any; 200]));
    assert_eq!(choice(&router, &json!({ "max_tokens": 20 })).await.2, 1);
    for min in [1, 7, 20] {
        let fields = json!({ "max_tokens": 20, "min_tokens": min });
        let (_, reason, n) = choice(&router, &fields).await;
        let expected = if min == 20 { ("length", 20) } else { ("stop", min + 1) };
        assert_eq!((reason.as_str(), n), expected);
    }
    let fields = json!({ "max_tokens": 20, "ignore_eos": true });
    let (_, reason, n) = choice(&router, &fields).await;
    assert_eq!((reason.as_str(), n), ("length", 20));
    for fields in [json!({ "min_tokens": 0 }), json!({ "ignore_eos": false })] {
        assert_eq!(choice(&router, &fields).await.2, 1);
    }
}

#[tokio::test]
async fn a_stop_token_ends_no_text_before_its_minimum() {
    let router = serving(Toy::doing(vec![Step::Babble; 200]));
    let first = tokens("a")[0].min(36);
    let fields = json!({ "max_tokens": 9, "stop_token_ids": [first] });
    assert_eq!(choice(&router, &fields).await.2, 1);
    let fields = json!({ "max_tokens": 9, "stop_token_ids": [first], "min_tokens": 4 });
    assert_eq!(choice(&router, &fields).await.2, 5);
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let router = serving(Toy::saying("x"));
    let tool = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    for (fields, param) in [
        (json!({ "stop_token_ids": 5 }), "stop_token_ids"),
        (json!({ "stop_token_ids": [4096] }), "stop_token_ids"),
        (json!({ "stop_token_ids": vec![50; 17] }), "stop_token_ids"),
        (json!({ "min_tokens": -1 }), "min_tokens"),
        (json!({ "min_tokens": 6, "max_tokens": 5 }), "min_tokens"),
        (json!({ "min_tokens": 1, "stop": "a" }), "min_tokens"),
        (json!({ "min_tokens": 1, "choices": ["a"] }), "min_tokens"),
        (json!({ "ignore_eos": 1 }), "ignore_eos"),
        (json!({ "ignore_eos": true, "stop": "a" }), "ignore_eos"),
        (json!({ "ignore_eos": true, "response_format": { "type": "json_object" } }), "ignore_eos"),
        (json!({ "ignore_eos": true, "tools": tool, "tool_choice": "required" }), "ignore_eos"),
    ] {
        let response = post(&router, &chat(&fields)).await;
        assert_eq!(response.status(), 400, "{fields}");
        assert_eq!(read(response).await["error"]["param"], param, "{fields}");
    }
}
